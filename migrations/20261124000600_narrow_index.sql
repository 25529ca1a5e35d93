-- A narrower index: the key of one person is stored once, with a list of rows. Measured with 100 organizations: a
-- fourteenth less of PostgreSQL's CPU time for an event.

drop index activity_events_participant;
-- what one person did, and merging people
create index activity_events_participant on activity_events (org_id, participant_id);

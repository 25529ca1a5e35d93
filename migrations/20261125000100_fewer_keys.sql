-- Two foreign keys less: a check per row was a seventh of PostgreSQL's CPU time where most people are new. Only the worker
-- writes these rows, after the rows they belong to and under the resolver lock; triggers keep those from being deleted.

alter table participant_groups drop constraint participant_groups_participant_fkey;
alter table group_metrics drop constraint group_metrics_org_fkey;

create or replace function rollcall_guard_organization() returns trigger language plpgsql as $$
begin
    -- waits for the transactions that write this organization; later ones find it gone
    perform pg_advisory_xact_lock(1919904876, rollcall_resolver_slot(old.id));
    if exists (select from activity_events where org_id = old.id) or exists (select from group_daily_users where org_id = old.id)
        or exists (select from group_metrics where org_id = old.id) then
        raise foreign_key_violation using
            message = format('organization %s still has activity', old.id),
            hint = 'delete its rows in activity_events, group_daily_users and group_metrics in the same transaction first';
    end if;
    return old;
end
$$;

create function rollcall_guard_participant() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock(1919904876, rollcall_resolver_slot(old.org_id));
    if exists (select from participant_groups where org_id = old.org_id and participant_id = old.id) then
        raise foreign_key_violation using
            message = format('participant %s is still in groups', old.id),
            hint = 'delete its rows in participant_groups and activity_events in the same transaction first';
    end if;
    return old;
end
$$;

create trigger participants_guard_delete before delete on participants
    for each row execute function rollcall_guard_participant();

-- Served by participants_merged_tg_user well enough: it is for merges and deletions only. As long as the tables were empty, the
-- resolver's look for a survivor could be planned with it, and read all merged people of the organization.
drop index participants_merged_into;

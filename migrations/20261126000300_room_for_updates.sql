-- Every message of somebody updates two rows of theirs. Where transactions wait for each other, versions that nobody needs any more stay
-- longer, pages run full, and a row that has to move to another page costs an entry in each index: a
-- twentieth of PostgreSQL's CPU time, of one process and of two at the same people. Pages that are there stay as they are until they are written anew.
alter table participants set (fillfactor = 50);
alter table participant_groups set (fillfactor = 50);

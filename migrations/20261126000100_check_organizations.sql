-- A foreign key less, which checked and locked a row for each new person: the worker has looked for the organization in the same
-- transaction, under a lock that those who delete it wait for. Rows of others are still checked.

alter table participants drop constraint participants_org_fkey;

create function rollcall_check_organization() returns trigger language plpgsql as $$
begin
    -- The organization may be about to be deleted; what follows sees what became of it.
    perform pg_advisory_xact_lock_shared(1919904876, rollcall_resolver_slot(new.org_id));
    if not exists (select from organizations where id = new.org_id) then
        raise foreign_key_violation using message = format('there is no organization %s', new.org_id);
    end if;
    return null;
end
$$;

create trigger participants_check_insert after insert on participants
    for each row when (new.source <> 'telegram_group') execute function rollcall_check_organization();
create trigger participants_check_update after update of org_id on participants
    for each row execute function rollcall_check_organization();

create or replace function rollcall_guard_organization() returns trigger language plpgsql as $$
begin
    -- waits for the transactions that write this organization; later ones find it gone
    perform pg_advisory_xact_lock(1919904876, rollcall_resolver_slot(old.id));
    if exists (select from participants where org_id = old.id) then
        raise foreign_key_violation using
            message = format('organization %s still has participants', old.id),
            hint = 'delete its rows in participants and all other tables in the same transaction first';
    end if;
    if exists (select from activity_events where org_id = old.id) or exists (select from group_daily_users where org_id = old.id)
        or exists (select from group_metrics where org_id = old.id) then
        raise foreign_key_violation using
            message = format('organization %s still has activity', old.id),
            hint = 'delete its rows in activity_events, group_daily_users and group_metrics in the same transaction first';
    end if;
    return old;
end
$$;

-- One index for both: the key, and what one person did. Measured with 100 organizations: a twentieth less of PostgreSQL's
-- CPU time for an event, a twelfth less WAL.

alter table activity_events drop constraint activity_events_pkey;
alter table activity_events add constraint activity_events_pkey
    primary key (org_id, tg_user_id, tg_chat_id, event_type, source_id);
drop index activity_events_participant;

create or replace function merge_participants(org_id uuid, survivor uuid, duplicate uuid) returns void
    language plpgsql
as $$
#variable_conflict use_column
declare
    org constant uuid := merge_participants.org_id;
    target_merged_into uuid;
    source_merged_into uuid;
    seen timestamptz;
    active timestamptz;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise feature_not_supported using message = 'merge_participants needs read committed: an older snapshot misses what was just written';
    end if;
    -- In a statement of its own: what follows must see all that was written before the lock was granted.
    perform pg_advisory_xact_lock(1919904876, rollcall_resolver_slot(org));

    if survivor = duplicate then
        raise invalid_parameter_value using message = format('participant %s cannot be merged into itself', survivor);
    end if;
    select merged_into into target_merged_into from participants where participants.org_id = org and id = survivor for no key update;
    if not found then
        raise no_data_found using message = format('no participant %s in organization %s', survivor, org);
    end if;
    if target_merged_into is not null then
        raise invalid_parameter_value using
            message = format('participant %s is merged itself', survivor),
            hint = format('merge into its survivor, %s', target_merged_into);
    end if;
    select merged_into, first_seen_at, last_activity_at into source_merged_into, seen, active
        from participants where participants.org_id = org and id = duplicate for no key update;
    if not found then
        raise no_data_found using message = format('no participant %s in organization %s', duplicate, org);
    end if;
    if source_merged_into = survivor then
        return;
    end if;
    if source_merged_into is not null then
        raise invalid_parameter_value using message = format('participant %s is already merged into %s', duplicate, source_merged_into);
    end if;

    insert into participant_groups as g (org_id, participant_id, tg_chat_id, first_seen_at, last_joined_at, last_left_at, last_message_at)
        select d.org_id, survivor, d.tg_chat_id, d.first_seen_at, d.last_joined_at, d.last_left_at, d.last_message_at
        from participant_groups d where d.org_id = org and d.participant_id = duplicate
        on conflict (org_id, participant_id, tg_chat_id) do update set
            first_seen_at   = least(g.first_seen_at, excluded.first_seen_at),
            last_joined_at  = greatest(g.last_joined_at, excluded.last_joined_at),
            last_left_at    = greatest(g.last_left_at, excluded.last_left_at),
            last_message_at = greatest(g.last_message_at, excluded.last_message_at);
    delete from participant_groups g where g.org_id = org and g.participant_id = duplicate;
    -- found by the users that resolved to the duplicate: themselves, and those merged into it before
    update activity_events a set participant_id = survivor
        where a.org_id = org and a.participant_id = duplicate and a.tg_user_id = any (array(
            select p.tg_user_id from participants p
            where p.org_id = org and (p.id = duplicate or p.merged_into = duplicate) and p.tg_user_id is not null));
    -- whoever was merged into the duplicate now follows it, so that a survivor is never merged itself
    update participants p set merged_into = survivor, updated_at = now()
        where p.org_id = org and (p.id = duplicate or p.merged_into = duplicate);
    update participants p set
            first_seen_at    = least(p.first_seen_at, seen),
            last_activity_at = greatest(p.last_activity_at, active),
            updated_at       = now()
        where p.org_id = org and p.id = survivor;
end
$$;

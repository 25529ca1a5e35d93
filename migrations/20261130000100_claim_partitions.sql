-- Replicas keep to partitions of their own while they work side by side.

-- Waits for open transactions; later ones are told to come again.
select pg_advisory_xact_lock(1919904876, slot) from generate_series(0, 255) slot;

create function rollcall_claim(wanted int[], claims boolean, inout claimed int, out others boolean) language plpgsql as $$
declare
    former int := claimed;
    candidate int;
begin
    claimed := null;
    others := false;
    foreach candidate in array coalesce(wanted, '{}') loop
        if not claims then
            -- Shared, so that those who look do not see each other.
            others := not pg_try_advisory_lock_shared(1919904877, candidate) or not pg_advisory_unlock_shared(1919904877, candidate);
            exit when others;
        elsif pg_try_advisory_lock(1919904877, candidate) then
            claimed := candidate;
            exit;
        else
            others := true;
        end if;
    end loop;
    perform pg_advisory_unlock(1919904877, former) where former is not null;
end
$$;

comment on function rollcall_claim is
    'Claims the first of the partitions that no other session has claimed, or, without claims, only looks; gives back what was claimed before; '
    'says whether others have claimed one that was tried. A claim is a session''s advisory lock and ends with it. Nobody waits for one, and '
    'nobody has to heed it.';

create procedure rollcall_apply(
    -- Sorted. All rows name their organization by its position here.
    orgs uuid[],
    -- what people did, by key: that, and what may be newer in it
    activity_orgs int[], activity_users bigint[], activity_chats bigint[], event_types text[], source_ids bigint[],
    edits_at timestamptz[], thread_ids bigint[], reply_ids bigint[], contents_at timestamptz[], content_update_ids bigint[],
    -- the chats, by organization and chat: the same
    group_orgs int[], group_chats bigint[], titles_at timestamptz[], title_update_ids bigint[], events_at timestamptz[],
    -- the rest of what they did; a membership is a position among the places
    activity_memberships int[], occurred_at timestamptz[], media_types text[], texts text[], chars int[], links int[], mentions int[],
    -- the rest of the chats
    titles text[], chat_types text[],
    -- people, by organization and user; new_ids are for those of them who have to be created
    person_orgs int[], person_users bigint[], usernames text[], first_names text[], last_names text[], full_names text[],
    profiles_at timestamptz[], profile_update_ids bigint[], people_seen_at timestamptz[], people_active_at timestamptz[],
    new_ids uuid[],
    -- their places in chats, by organization, user and chat; a person is a position among the people
    member_orgs int[], member_people int[], member_chats bigint[], members_seen_at timestamptz[],
    joined_at timestamptz[], left_at timestamptz[], wrote_at timestamptz[], member_message_ids bigint[],
    -- What kept everything from being written: organizations in which people are merged right now, and unknown ones.
    inout busy uuid[], inout unknown uuid[],
    -- Whether other transactions wrote some of the same rows meanwhile: waiting for them is what limits how much replicas can do.
    inout met boolean,
    -- Whether nothing was written since all of it was there.
    inout known boolean,
    -- As of rollcall_claim, which is called at the end if any are wanted or one is claimed.
    wanted int[], claims boolean,
    inout claimed int, inout others boolean
)
    language plpgsql
as $$
#variable_conflict use_column
declare
    refused_slots int[];
    zones text[];
    -- of each zone among them, and then of each organization: how far its clock is from UTC all the time around these events, if it is
    all_zones text[];
    all_shifts interval[];
    shifts interval[];
    first_at timestamptz;
    last_at timestamptz;
    -- Whether there is so much that to find out something about all of it first is worth the statement.
    is_large boolean;
    -- Whether somebody else writes the same rows right now, so that they are locked before they are updated.
    is_careful boolean := false;
    -- Whether a message is taken for new by its id alone.
    is_trusting boolean := true;
    -- of each organization: whether somebody is merged there, and whether there is activity of users without a participant
    has_merged boolean[];
    has_unclaimed boolean[];
    -- Whether somebody who has to be created has activity: else nothing of theirs is looked up.
    has_history boolean;
    violated text;
    written bigint;
    -- of each person: who it is, where the row was seen, nowhere if it has to be created, whether that changes, and, where the
    -- user was merged, the survivor with its own user
    ids uuid[];
    tids tid[];
    is_news boolean[];
    is_newer_profile boolean[];
    survivors uuid[];
    survivor_users bigint[];
    missing int[];
    is_any_held boolean;
    has_survivors boolean;
    -- the rows of participants to update
    row_orgs int[];
    row_ids uuid[];
    row_tids tid[];
    row_is_news boolean[];
    row_is_newer boolean[];
    row_usernames text[];
    row_first_names text[];
    row_last_names text[];
    row_full_names text[];
    row_profiles_at timestamptz[];
    row_profile_update_ids bigint[];
    row_seen_at timestamptz[];
    row_active_at timestamptz[];
    -- the rows of participant_groups, where they were seen, what stood there, and whether that changes
    place_orgs int[];
    place_people int[];
    place_chats bigint[];
    place_seen_at timestamptz[];
    place_joined_at timestamptz[];
    place_left_at timestamptz[];
    place_wrote_at timestamptz[];
    place_message_ids bigint[];
    place_tids tid[];
    known_from timestamptz[];
    known_joined_at timestamptz[];
    known_left_at timestamptz[];
    known_wrote_at timestamptz[];
    known_message_ids bigint[];
    place_is_news boolean[];
    -- of each activity, the place a position among these rows
    activity_places int[];
    is_new boolean[];
    is_newer boolean[];
    deed int;
    -- messages that became replies
    reply_orgs uuid[];
    reply_chats bigint[];
    reply_dates date[];
    -- whether a day counts somebody whose place is there and would not change
    has_newcomers_of_old boolean;
    -- what each chat's day gets
    day_orgs uuid[];
    day_chats bigint[];
    day_dates date[];
    day_messages int[];
    day_replies int[];
    day_writers int[];
    day_joined int[];
    day_gone int[];
begin
    met := false;
    known := false;
    is_large := cardinality(activity_orgs) >= 16;
    -- Tries, so that a merge of people delays its own organization only. What follows sees all that was written before.
    if cardinality(orgs) > 256 then
        -- nearly all are needed
        for slot in 0..255 loop
            if not pg_try_advisory_xact_lock_shared(1919904876, slot) then
                refused_slots := refused_slots || slot;
            end if;
        end loop;
    else
        for position in 1..cardinality(orgs) loop
            if not pg_try_advisory_xact_lock_shared(1919904876, rollcall_resolver_slot(orgs[position])) then
                refused_slots := refused_slots || rollcall_resolver_slot(orgs[position]);
            end if;
        end loop;
    end if;
    if refused_slots is not null then
        select array_agg(org) into busy from unnest(orgs) org where rollcall_resolver_slot(org) = any (refused_slots);
        -- Of a slot that none of these has it does not matter who holds it.
        if busy is not null then
            return;
        end if;
    end if;

    select array_agg(o.timezone), array_agg(o.has_merged_people), array_agg(o.has_unclaimed_activity),
           array_agg(n.org) filter (where o.id is null)
        into zones, has_merged, has_unclaimed, unknown
        from (select unnest(orgs) as org) n left join organizations o on o.id = n.org;
    if unknown is not null then
        return;
    end if;
    known := true;

    -- A day is one of the organization's clock. Where that stays as it is from two days before all of this until two days after, as nearly
    -- always, to add hours is faster than to look into the zone, and what is further away is on none of these days either way.
    if is_large then
        select min(moment), max(moment) into first_at, last_at from (select unnest(occurred_at) as moment) n;
        if last_at - first_at < interval '720 hours' then
            all_zones := array(select distinct unnest(zones));
            all_shifts := array(
                select (
                    select case when min(shift) = max(shift) then min(shift) end
                    from (
                        select moment at time zone zone - moment at time zone 'UTC' as shift
                        from generate_series(first_at - interval '48 hours', last_at + interval '72 hours', interval '24 hours') moment
                    ) s
                )
                from unnest(all_zones) zone);
            shifts := array(select all_shifts[array_position(all_zones, zone)] from unnest(zones) zone);
        end if;
    end if;

    -- What follows is looked up first, since to conflict costs more: what is not there is inserted, what is there is updated where it
    -- was seen. Where another transaction was faster, all is taken back and done once more. Lookups are lateral with a limit,
    -- so that no plan can read more than a key's row.
    loop
    begin
        -- The resolver: finds or creates the participant behind every user. The locks keep merges of people out. Rows that would
        -- not change are not touched.
        select array_agg(live.id), array_agg(live.tid), array_agg(live.is_newer), array_agg(live.is_newer or live.is_wider),
               coalesce(bool_or(live.is_held), false)
            into ids, tids, is_newer_profile, is_news, is_any_held
            from (
                select unnest(person_orgs) as org, unnest(person_users) as tg_user_id, unnest(profiles_at) as profile_at,
                       unnest(profile_update_ids) as profile_update_id, unnest(people_seen_at) as seen_at, unnest(people_active_at) as active_at
            ) f
            left join lateral (
                select p.id, p.ctid as tid, rollcall_is_running(p.xmax) as is_held,
                       rollcall_is_newer(f.profile_at, f.profile_update_id, p.profile_at, p.profile_update_id) as is_newer,
                       (f.seen_at < coalesce(p.first_seen_at, 'infinity')
                           or f.active_at > coalesce(p.last_activity_at, '-infinity')) is true as is_wider
                from participants p
                where p.org_id = orgs[f.org] and p.tg_user_id = f.tg_user_id and p.merged_into is null limit 1
            ) live on true;
        missing := array_positions(ids, null);
        has_survivors := false;
        if true = any (has_merged) then
            has_survivors := exists (
                select from unnest(missing) i, lateral (
                    select from participants m
                    where m.org_id = orgs[person_orgs[i]] and m.tg_user_id = person_users[i] and m.merged_into is not null limit 1
                ) merged
                where has_merged[person_orgs[i]]);
        end if;
        if has_survivors then
            select array_agg(coalesce(f.id, survivor.id)), array_agg(coalesce(f.tid, survivor.tid)),
                   array_agg(coalesce(f.is_news, survivor.is_news)), array_agg(survivor.id), array_agg(survivor.tg_user_id)
                into ids, tids, is_news, survivors, survivor_users
                from (
                    select unnest(person_orgs) as org, unnest(person_users) as tg_user_id, unnest(people_seen_at) as seen_at,
                           unnest(people_active_at) as active_at, unnest(ids) as id, unnest(tids) as tid, unnest(is_news) as is_news
                ) f
                left join lateral (
                    select m.merged_into as id from participants m
                    where f.id is null and m.org_id = orgs[f.org] and m.tg_user_id = f.tg_user_id and m.merged_into is not null
                    order by m.merged_into limit 1
                ) merged on true
                left join lateral (
                    select s.id, s.ctid as tid, s.tg_user_id,
                           (f.seen_at < coalesce(s.first_seen_at, 'infinity')
                               or f.active_at > coalesce(s.last_activity_at, '-infinity')) is true as is_news
                    from participants s
                    where s.org_id = orgs[f.org] and s.id = merged.id limit 1
                ) survivor on true;
            missing := array_positions(ids, null);
        end if;
        has_history := false;
        if true = any (has_unclaimed) then
            has_history := exists (
                select from unnest(missing) i, lateral (
                    select from activity_events a where a.org_id = orgs[person_orgs[i]] and a.tg_user_id = person_users[i] limit 1
                ) a
                where has_unclaimed[person_orgs[i]]);
        end if;
        if cardinality(missing) > 0 then
            known := false;
            ids := array(select coalesce(id, new_id) from (select unnest(ids) as id, unnest(new_ids) as new_id) n);
            insert into participants (org_id, id, tg_user_id, username, tg_first_name, tg_last_name, full_name, tg_full_name,
                                      profile_at, profile_update_id, first_seen_at, last_activity_at, source)
                select orgs[person_orgs[i]], ids[i], person_users[i], usernames[i], first_names[i], last_names[i], full_names[i], full_names[i],
                       profiles_at[i], profile_update_ids[i], people_seen_at[i], people_active_at[i], 'telegram_group'
                from unnest(missing) i;
        end if;

        if has_survivors then
            -- A survivor may be named by itself and by those merged into it: one row, its own profile, under its own user. In
            -- an organization those come first who have none.
            select array_agg(n.org), array_agg(n.id), array_agg(n.tid), array_agg(true), array_agg(n.is_newer), array_agg(n.username), array_agg(n.first_name),
                   array_agg(n.last_name), array_agg(n.full_name), array_agg(n.profile_at), array_agg(n.profile_update_id),
                   array_agg(n.seen_at), array_agg(n.active_at)
                into row_orgs, row_ids, row_tids, row_is_news, row_is_newer, row_usernames, row_first_names,
                     row_last_names, row_full_names, row_profiles_at, row_profile_update_ids, row_seen_at, row_active_at
                from (
                    select f.org, f.id, (array_agg(f.tid))[1] as tid, bool_or(f.is_newer) filter (where f.survivor_id is null) as is_newer,
                           max(f.username) filter (where f.survivor_id is null) as username,
                           max(f.first_name) filter (where f.survivor_id is null) as first_name,
                           max(f.last_name) filter (where f.survivor_id is null) as last_name,
                           max(f.full_name) filter (where f.survivor_id is null) as full_name,
                           max(f.profile_at) filter (where f.survivor_id is null) as profile_at,
                           max(f.profile_update_id) filter (where f.survivor_id is null) as profile_update_id,
                           min(f.seen_at) as seen_at, max(f.active_at) as active_at
                    from (
                        select unnest(person_orgs) as org, unnest(person_users) as tg_user_id, unnest(ids) as id, unnest(tids) as tid,
                               unnest(survivors) as survivor_id, unnest(survivor_users) as survivor_user, unnest(is_news) as is_news,
                               unnest(is_newer_profile) as is_newer,
                               unnest(usernames) as username, unnest(first_names) as first_name, unnest(last_names) as last_name,
                               unnest(full_names) as full_name, unnest(profiles_at) as profile_at,
                               unnest(profile_update_ids) as profile_update_id, unnest(people_seen_at) as seen_at,
                               unnest(people_active_at) as active_at
                    ) f
                    where f.is_news
                    group by f.org, case when f.survivor_id is null then f.tg_user_id else f.survivor_user end, f.id
                    order by f.org, case when f.survivor_id is null then f.tg_user_id else f.survivor_user end nulls first, f.id
                ) n;
            -- One place in a chat for all users of a survivor, in the same order.
            select array_agg(n.org), array_agg(n.person), array_agg(n.tg_chat_id), array_agg(n.seen_at), array_agg(n.joined_at),
                   array_agg(n.left_at), array_agg(n.wrote_at), array_agg(n.message_id)
                into place_orgs, place_people, place_chats, place_seen_at, place_joined_at, place_left_at, place_wrote_at,
                     place_message_ids
                from (
                    select m.org, min(m.person) as person, m.tg_chat_id, min(m.seen_at) as seen_at, max(m.joined_at) as joined_at,
                           max(m.left_at) as left_at, max(m.wrote_at) as wrote_at, max(m.message_id) as message_id
                    from (
                        select unnest(member_orgs) as org, unnest(member_people) as person, unnest(member_chats) as tg_chat_id,
                               unnest(members_seen_at) as seen_at, unnest(joined_at) as joined_at, unnest(left_at) as left_at,
                               unnest(wrote_at) as wrote_at, unnest(member_message_ids) as message_id
                    ) m
                    group by m.org, case when survivors[m.person] is null then person_users[m.person] else survivor_users[m.person] end,
                             ids[m.person], m.tg_chat_id
                    order by m.org, case when survivors[m.person] is null then person_users[m.person] else survivor_users[m.person] end
                             nulls first, ids[m.person], m.tg_chat_id
                ) n;
            activity_places := array(
                select place_of[n.membership]
                from (select unnest(activity_memberships) as membership) n,
                (
                    select array_agg(p.place order by p.membership) as place_of
                    from (
                        select m.membership, dense_rank() over (
                            order by m.org, case when survivors[m.person] is null then person_users[m.person] else survivor_users[m.person] end
                                     nulls first, ids[m.person], m.tg_chat_id
                        )::int as place
                        from (
                            select generate_subscripts(member_orgs, 1) as membership, unnest(member_orgs) as org,
                                   unnest(member_people) as person, unnest(member_chats) as tg_chat_id
                        ) m
                    ) p
                ) p);
        else
            row_orgs := person_orgs;
            row_ids := ids;
            row_tids := tids;
            row_is_news := is_news;
            row_is_newer := is_newer_profile;
            row_usernames := usernames;
            row_first_names := first_names;
            row_last_names := last_names;
            row_full_names := full_names;
            row_profiles_at := profiles_at;
            row_profile_update_ids := profile_update_ids;
            row_seen_at := people_seen_at;
            row_active_at := people_active_at;
            place_orgs := member_orgs;
            place_people := member_people;
            place_chats := member_chats;
            place_seen_at := members_seen_at;
            place_joined_at := joined_at;
            place_left_at := left_at;
            place_wrote_at := wrote_at;
            place_message_ids := member_message_ids;
            activity_places := activity_memberships;
        end if;

        if true = any (row_is_news) then
            known := false;
            if is_careful or is_any_held then
                met := true;
                select array_agg(p.tid), array_agg(p.is_newer) into row_tids, row_is_newer
                    from (
                        select unnest(row_orgs) as org, unnest(row_ids) as id, unnest(row_is_news) as is_news,
                               unnest(row_profiles_at) as profile_at, unnest(row_profile_update_ids) as profile_update_id
                    ) n
                    left join lateral (
                        select p.ctid as tid, rollcall_is_newer(n.profile_at, n.profile_update_id, p.profile_at, p.profile_update_id) as is_newer
                        from participants p
                        where n.is_news and p.org_id = orgs[n.org] and p.id = n.id for no key update
                    ) p on true;
            end if;
            update participants p set
                    username          = case when n.is_newer then n.username else p.username end,
                    tg_first_name     = case when n.is_newer then n.first_name else p.tg_first_name end,
                    tg_last_name      = case when n.is_newer then n.last_name else p.tg_last_name end,
                    -- a name that differs from what the worker last wrote was edited by a person
                    full_name         = case when n.is_newer and p.full_name is not distinct from p.tg_full_name
                                             then n.full_name else p.full_name end,
                    tg_full_name      = case when n.is_newer and p.full_name is not distinct from p.tg_full_name
                                             then n.full_name else p.tg_full_name end,
                    profile_update_id = case when n.is_newer then n.profile_update_id else p.profile_update_id end,
                    profile_at        = greatest(p.profile_at, n.profile_at),
                    first_seen_at     = least(p.first_seen_at, n.seen_at),
                    last_activity_at  = greatest(p.last_activity_at, n.active_at),
                    updated_at        = now()
                from (
                    select unnest(row_orgs) as org, unnest(row_ids) as id, unnest(row_tids) as tid, unnest(row_is_news) as is_news,
                           unnest(row_is_newer) as is_newer, unnest(row_usernames) as username,
                           unnest(row_first_names) as first_name, unnest(row_last_names) as last_name,
                           unnest(row_full_names) as full_name, unnest(row_profiles_at) as profile_at,
                           unnest(row_profile_update_ids) as profile_update_id, unnest(row_seen_at) as seen_at,
                           unnest(row_active_at) as active_at
                ) n
                where n.is_news and p.ctid = n.tid and p.org_id = orgs[n.org] and p.id = n.id;
            get diagnostics written = row_count;
            if written <> cardinality(array_positions(row_is_news, true)) then
                raise serialization_failure;
            end if;
        end if;

        -- and their places in chats, in the same order
        select array_agg(old.tid), array_agg(old.is_news), coalesce(bool_or(old.is_held), false), array_agg(old.first_seen_at),
               array_agg(old.last_joined_at), array_agg(old.last_left_at), array_agg(old.last_message_at), array_agg(old.newest_message_id)
            into place_tids, place_is_news, is_any_held, known_from, known_joined_at, known_left_at, known_wrote_at, known_message_ids
            from (
                select unnest(place_orgs) as org, unnest(place_people) as person, unnest(place_chats) as tg_chat_id,
                       unnest(place_seen_at) as seen_at, unnest(place_joined_at) as joined_at, unnest(place_left_at) as left_at,
                       unnest(place_wrote_at) as wrote_at, unnest(place_message_ids) as message_id
            ) n
            left join lateral (
                select g.ctid as tid, rollcall_is_running(g.xmax) as is_held, g.first_seen_at, g.last_joined_at, g.last_left_at, g.last_message_at,
                       g.newest_message_id,
                       (n.seen_at < g.first_seen_at
                           or n.joined_at > coalesce(g.last_joined_at, '-infinity')
                           or n.left_at > coalesce(g.last_left_at, '-infinity')
                           or n.wrote_at > coalesce(g.last_message_at, '-infinity')
                           or n.message_id > coalesce(g.newest_message_id, 0)) is true as is_news
                from participant_groups g
                where (has_history or tids[n.person] is not null)
                    and g.org_id = orgs[n.org] and g.participant_id = ids[n.person] and g.tg_chat_id = n.tg_chat_id limit 1
            ) old on true;
        missing := array_positions(place_tids, null);
        if cardinality(missing) > 0 then
            known := false;
            insert into participant_groups (org_id, participant_id, tg_chat_id, first_seen_at, last_joined_at, last_left_at, last_message_at,
                                            newest_message_id)
                select orgs[place_orgs[i]], ids[place_people[i]], place_chats[i], place_seen_at[i], place_joined_at[i], place_left_at[i],
                       place_wrote_at[i], place_message_ids[i]
                from unnest(missing) i;
        end if;

        -- What happened. Somebody's message with a greater id than all of theirs in the chat is new, as is everything of those who were
        -- not there; if it is there all the same, to insert it conflicts, and all is looked up.
        is_trusting := is_trusting and not has_history and not has_survivors;
        select array_agg(a.org_id is null),
               array_agg(case when a.event_type = 'message' then (
                   rollcall_is_newer(contents_at[n.i], content_update_ids[n.i], a.content_at, a.content_update_id)
                   or edits_at[n.i] > coalesce(a.edited_at, '-infinity')
                   or thread_ids[n.i] > coalesce(a.message_thread_id, 0)
                   or reply_ids[n.i] > coalesce(a.reply_to_message_id, 0)) is true else false end)
            into is_new, is_newer
            from (
                select generate_subscripts(activity_orgs, 1) as i, unnest(activity_memberships) as membership, unnest(activity_places) as place,
                       unnest(event_types) as event_type, unnest(source_ids) as source_id
            ) n
            left join lateral (
                select a.* from activity_events a
                where (case when is_trusting
                            then place_tids[n.place] is not null
                                and (n.event_type = 'message' and n.source_id > known_message_ids[n.place]) is not true
                            else has_history or tids[member_people[n.membership]] is not null end)
                  and a.org_id = orgs[activity_orgs[n.i]] and a.tg_user_id = activity_users[n.i] and a.tg_chat_id = activity_chats[n.i]
                  and a.event_type = n.event_type and a.source_id = n.source_id limit 1
            ) a on true;

        -- Places with something new are written, so that of two transactions with somebody's first deed of a day one sees the other's.
        if (is_careful or is_any_held) and (true = any (place_is_news) or true = any (is_new)) then
            met := true;
            foreach deed in array array_positions(is_new, true) loop
                place_is_news[activity_places[deed]] := place_tids[activity_places[deed]] is not null;
            end loop;
            select array_agg(g.tid), array_agg(g.first_seen_at), array_agg(g.last_joined_at), array_agg(g.last_left_at),
                   array_agg(g.last_message_at), array_agg(g.newest_message_id)
                into place_tids, known_from, known_joined_at, known_left_at, known_wrote_at, known_message_ids
                from (
                    select unnest(place_orgs) as org, unnest(place_people) as person, unnest(place_chats) as tg_chat_id,
                           unnest(place_is_news) as is_news
                ) n
                left join lateral (
                    select g.ctid as tid, g.first_seen_at, g.last_joined_at, g.last_left_at, g.last_message_at, g.newest_message_id
                    from participant_groups g
                    where n.is_news and g.org_id = orgs[n.org] and g.participant_id = ids[n.person] and g.tg_chat_id = n.tg_chat_id
                    for no key update
                ) g on true;
        end if;

        -- What really is new in this transaction, by chat and day; nothing else may ever count. On a day before the first and after
        -- the last that a place knows nobody did anything; on one between, the message before or after is nearly always of that day.
        day_orgs := null;
        day_chats := null;
        day_dates := null;
        day_messages := null;
        day_replies := null;
        day_writers := null;
        day_joined := null;
        day_gone := null;
        if true = any (is_new) then
            with deeds as (
                select n.place, n.event_type, n.tg_user_id,
                       rollcall_local_date(n.occurred_at, shifts[place_orgs[n.place]], zones[place_orgs[n.place]]) as date,
                       count(*) as events, count(n.reply_to) as replies, min(n.source_id) as first_id, max(n.source_id) as last_id
                from (
                    select unnest(activity_places) as place, unnest(activity_users) as tg_user_id, unnest(event_types) as event_type,
                           unnest(source_ids) as source_id, unnest(occurred_at) as occurred_at, unnest(reply_ids) as reply_to,
                           unnest(is_new) as is_new
                ) n
                where n.is_new
                group by 1, 2, 3, 4
            ),
            judged as (
                select d.*, not case
                        -- what somebody wrote last there is of that day, and it was no other user of theirs
                        when d.event_type = 'message' and d.date = d.last_date and known_message_ids[d.place] is not null
                            and not has_history and not has_merged[d.org] and not has_unclaimed[d.org] then true
                        when has_history or d.date between rollcall_local_date(known_from[d.place], shifts[d.org], zones[d.org]) and d.last_date then
                            exists (
                                select from (
                                    select a.occurred_at from activity_events a
                                    where a.org_id = orgs[d.org] and a.tg_user_id = d.tg_user_id and a.tg_chat_id = d.tg_chat_id
                                      and a.event_type = d.event_type and a.source_id < d.first_id
                                    order by a.source_id desc limit 1
                                ) before where rollcall_local_date(before.occurred_at, shifts[d.org], zones[d.org]) = d.date)
                            or exists (
                                select from (
                                    select a.occurred_at from activity_events a
                                    where a.org_id = orgs[d.org] and a.tg_user_id = d.tg_user_id and a.tg_chat_id = d.tg_chat_id
                                      and a.event_type = d.event_type and a.source_id > d.last_id
                                    order by a.source_id limit 1
                                ) after where rollcall_local_date(after.occurred_at, shifts[d.org], zones[d.org]) = d.date)
                            or exists (
                                select from activity_events a
                                where a.org_id = orgs[d.org] and a.tg_user_id = d.tg_user_id and a.tg_chat_id = d.tg_chat_id
                                  and a.event_type = d.event_type
                                  and rollcall_local_date(a.occurred_at, shifts[d.org], zones[d.org]) = d.date)
                        else false
                    end as is_newcomer
                from (
                    select n.*, rollcall_local_date(
                        case n.event_type when 'message' then known_wrote_at[n.place] when 'join' then known_joined_at[n.place]
                            else known_left_at[n.place] end, shifts[n.org], zones[n.org]) as last_date
                    from (select deeds.*, place_orgs[place] as org, place_chats[place] as tg_chat_id from deeds) n
                    -- else what it says would be found out at each of its mentions
                    offset 0
                ) d
                offset 0
            ),
            days as (
                select org, tg_chat_id, date, coalesce(sum(events) filter (where event_type = 'message'), 0)::int as messages,
                       sum(replies)::int as replies,
                       (count(*) filter (where is_newcomer and event_type = 'message'))::int as writers,
                       (count(*) filter (where is_newcomer and event_type = 'join'))::int as joined,
                       (count(*) filter (where is_newcomer and event_type = 'leave'))::int as gone,
                       bool_or(is_newcomer and place_is_news[place] is false) as has_newcomers_of_old
                from judged group by 1, 2, 3
                -- somebody's second join of a day adds nothing
                having bool_or(is_newcomer or event_type = 'message')
                -- few days are sorted, not all deeds
                offset 0
            )
            select array_agg(orgs[org]), array_agg(tg_chat_id), array_agg(date), array_agg(messages), array_agg(replies), array_agg(writers),
                   array_agg(joined), array_agg(gone), bool_or(has_newcomers_of_old)
            into day_orgs, day_chats, day_dates, day_messages, day_replies, day_writers, day_joined, day_gone, has_newcomers_of_old
            from (select * from days order by org, tg_chat_id, date) d;
            if has_newcomers_of_old then
                foreach deed in array array_positions(is_new, true) loop
                    place_is_news[activity_places[deed]] := place_tids[activity_places[deed]] is not null;
                end loop;
            end if;
        end if;

        if true = any (place_is_news) then
            known := false;
            update participant_groups g set
                    first_seen_at   = least(g.first_seen_at, n.seen_at),
                    last_joined_at  = greatest(g.last_joined_at, n.joined_at),
                    last_left_at    = greatest(g.last_left_at, n.left_at),
                    last_message_at = greatest(g.last_message_at, n.wrote_at),
                    newest_message_id = greatest(g.newest_message_id, n.message_id)
                from (
                    select unnest(place_orgs) as org, unnest(place_people) as person, unnest(place_chats) as tg_chat_id,
                           unnest(place_tids) as tid, unnest(place_is_news) as is_news, unnest(place_seen_at) as seen_at,
                           unnest(place_joined_at) as joined_at, unnest(place_left_at) as left_at, unnest(place_wrote_at) as wrote_at,
                           unnest(place_message_ids) as message_id
                ) n
                where n.is_news and g.ctid = n.tid and g.org_id = orgs[n.org] and g.participant_id = ids[n.person]
                    and g.tg_chat_id = n.tg_chat_id;
            get diagnostics written = row_count;
            if written <> cardinality(array_positions(place_is_news, true)) then
                raise serialization_failure;
            end if;
        end if;

        if true = any (is_new) then
            known := false;
            insert into activity_events (org_id, tg_chat_id, event_type, source_id, tg_user_id, participant_id, occurred_at, edited_at,
                                         message_thread_id, reply_to_message_id, media_type, has_media, message_text, chars_count, links_count,
                                         mentions_count, content_at, content_update_id)
                select orgs[n.org], n.tg_chat_id, n.event_type, n.source_id, n.tg_user_id, ids[member_people[n.membership]],
                       n.occurred_at, n.edited_at, n.thread_id, n.reply_to, n.media_type, n.media_type is not null, n.message_text, n.chars, n.links, n.mentions,
                       n.content_at, n.content_update_id
                from (
                    select unnest(activity_orgs) as org, unnest(activity_memberships) as membership, unnest(activity_users) as tg_user_id,
                           unnest(activity_chats) as tg_chat_id, unnest(event_types) as event_type, unnest(source_ids) as source_id,
                           unnest(occurred_at) as occurred_at, unnest(edits_at) as edited_at,
                           unnest(thread_ids) as thread_id, unnest(reply_ids) as reply_to, unnest(media_types) as media_type,
                           unnest(texts) as message_text, unnest(chars) as chars, unnest(links) as links, unnest(mentions) as mentions,
                           unnest(contents_at) as content_at, unnest(content_update_ids) as content_update_id, unnest(is_new) as is_new
                ) n
                where n.is_new;
        end if;

        -- messages that exist get what is newer
        reply_orgs := null;
        if true = any (is_newer) then
            known := false;
            with found as (
                select i, activity_orgs[i] as org, contents_at[i] as content_at, content_update_ids[i] as content_update_id,
                       a.org_id, a.tg_user_id, a.tg_chat_id, a.event_type, a.source_id, a.reply_to_message_id is null as was_no_reply
                from unnest(array_positions(is_newer, true)) i
                join activity_events a on a.org_id = orgs[activity_orgs[i]] and a.tg_user_id = activity_users[i] and a.tg_chat_id = activity_chats[i]
                    and a.event_type = event_types[i] and a.source_id = source_ids[i]
                for no key update of a
            ),
            revised as (
                update activity_events a
                set media_type          = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then media_types[k.i] else a.media_type end,
                    message_text        = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then texts[k.i] else a.message_text end,
                    chars_count         = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then chars[k.i] else a.chars_count end,
                    links_count         = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then links[k.i] else a.links_count end,
                    mentions_count      = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then mentions[k.i] else a.mentions_count end,
                    content_update_id   = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then k.content_update_id else a.content_update_id end,
                    content_at          = greatest(a.content_at, k.content_at),
                    edited_at           = greatest(a.edited_at, edits_at[k.i]),
                    message_thread_id   = greatest(a.message_thread_id, thread_ids[k.i]),
                    reply_to_message_id = greatest(a.reply_to_message_id, reply_ids[k.i])
                from found k
                where a.org_id = k.org_id and a.tg_user_id = k.tg_user_id and a.tg_chat_id = k.tg_chat_id
                  and a.event_type = k.event_type and a.source_id = k.source_id
                returning a.org_id, a.tg_chat_id, rollcall_local_date(a.occurred_at, shifts[k.org], zones[k.org]) as date,
                          k.was_no_reply and a.reply_to_message_id is not null as became_reply
            )
            select array_agg(org_id), array_agg(tg_chat_id), array_agg(date) into reply_orgs, reply_chats, reply_dates
                from revised where became_reply;
            if reply_orgs is not null then
                select array_agg(org_id), array_agg(tg_chat_id), array_agg(date), array_agg(messages), array_agg(replies), array_agg(writers),
                       array_agg(joined), array_agg(gone)
                into day_orgs, day_chats, day_dates, day_messages, day_replies, day_writers, day_joined, day_gone
                from (
                    select org_id, tg_chat_id, date, sum(messages)::int as messages, sum(replies)::int as replies,
                           sum(writers)::int as writers, sum(joined)::int as joined, sum(gone)::int as gone
                    from (
                        select unnest(day_orgs) as org_id, unnest(day_chats) as tg_chat_id, unnest(day_dates) as date,
                               unnest(day_messages) as messages, unnest(day_replies) as replies, unnest(day_writers) as writers,
                               unnest(day_joined) as joined, unnest(day_gone) as gone
                        union all
                        select unnest(reply_orgs), unnest(reply_chats), unnest(reply_dates), 0, 1, 0, 0, 0
                    ) added
                    group by 1, 2, 3 order by 1, 2, 3
                ) d;
            end if;
        end if;
        exit;
    exception
        -- what was seen is no longer there
        when serialization_failure then
            if is_careful then
                raise;
            end if;
            is_careful := true;
            met := true;
        -- what was not there is there now
        when unique_violation then
            get stacked diagnostics violated = constraint_name;
            if (violated in ('idx_participants_unique_tg_user_per_org', 'participant_groups_pkey',
                             'activity_events_pkey')) is not true then
                raise;
            end if;
            is_trusting := is_trusting and violated <> 'activity_events_pkey';
            met := true;
    end;
    end loop;

    -- The rows in which all transactions of an organization meet: last, and by themselves, so that little is done once more.
    loop
    begin
        if day_orgs is not null then
            merge into group_metrics m
                using (
                    select unnest(day_orgs) as org_id, unnest(day_chats) as tg_chat_id, unnest(day_dates) as date,
                           unnest(day_messages) as messages, unnest(day_replies) as replies, unnest(day_writers) as writers,
                           unnest(day_joined) as joined, unnest(day_gone) as gone
                ) n
                on m.org_id = n.org_id and m.tg_chat_id = n.tg_chat_id and m.date = n.date and (m.xmax = '0' or rollcall_note_met(m.xmax))
                when matched then update set
                    message_count = m.message_count + n.messages,
                    reply_count   = m.reply_count + n.replies,
                    dau           = m.dau + n.writers,
                    join_count    = m.join_count + n.joined,
                    leave_count   = m.leave_count + n.gone
                when not matched then
                    insert (org_id, tg_chat_id, date, message_count, reply_count, dau, join_count, leave_count)
                    values (n.org_id, n.tg_chat_id, n.date, n.messages, n.replies, n.writers, n.joined, n.gone);
        end if;

        if cardinality(group_orgs) > 0 then
            merge into org_telegram_groups g
                using (
                    select orgs[n.org] as org_id, n.* from (
                        select unnest(group_orgs) as org, unnest(group_chats) as tg_chat_id, unnest(titles) as title,
                               unnest(chat_types) as chat_type, unnest(titles_at) as title_at, unnest(title_update_ids) as title_update_id,
                               unnest(events_at) as event_at
                    ) n
                ) n
                on g.org_id = n.org_id and g.tg_chat_id = n.tg_chat_id and (g.xmax = '0' or rollcall_note_met(g.xmax))
                when matched and rollcall_is_newer(n.title_at, n.title_update_id, g.title_at, g.title_update_id) then update set
                    title           = n.title,
                    chat_type       = n.chat_type,
                    title_at        = n.title_at,
                    title_update_id = n.title_update_id,
                    last_event_at   = greatest(g.last_event_at, n.event_at),
                    updated_at      = now()
                when matched and n.event_at > coalesce(g.last_event_at, '-infinity') then update set
                    last_event_at   = n.event_at,
                    updated_at      = now()
                when not matched then
                    insert (org_id, tg_chat_id, title, chat_type, title_at, title_update_id, last_event_at)
                    values (n.org_id, n.tg_chat_id, n.title, n.chat_type, n.title_at, n.title_update_id, n.event_at);
            get diagnostics written = row_count;
            known := known and written = 0;
        end if;
        exit;
    exception
        -- what was not there is there now
        when unique_violation then
            get stacked diagnostics violated = constraint_name;
            if (violated in ('group_metrics_pkey', 'org_telegram_groups_pkey')) is not true then
                raise;
            end if;
            met := true;
    end;
    end loop;
    met := met or coalesce(current_setting('rollcall.met', true) = 'on', false);
    if wanted is not null or claimed is not null then
        select * into claimed, others from rollcall_claim(wanted, claims, claimed);
    end if;
end
$$;

-- For replicas of the version before.
create or replace procedure rollcall_apply(
    orgs uuid[],
    activity_orgs int[], activity_users bigint[], activity_chats bigint[], event_types text[], source_ids bigint[],
    edits_at timestamptz[], thread_ids bigint[], reply_ids bigint[], contents_at timestamptz[], content_update_ids bigint[],
    group_orgs int[], group_chats bigint[], titles_at timestamptz[], title_update_ids bigint[], events_at timestamptz[],
    activity_memberships int[], occurred_at timestamptz[], media_types text[], texts text[], chars int[], links int[], mentions int[],
    titles text[], chat_types text[],
    person_orgs int[], person_users bigint[], usernames text[], first_names text[], last_names text[], full_names text[],
    profiles_at timestamptz[], profile_update_ids bigint[], people_seen_at timestamptz[], people_active_at timestamptz[],
    new_ids uuid[],
    member_orgs int[], member_people int[], member_chats bigint[], members_seen_at timestamptz[],
    joined_at timestamptz[], left_at timestamptz[], wrote_at timestamptz[], member_message_ids bigint[],
    inout busy uuid[], inout unknown uuid[],
    inout met boolean,
    inout known boolean
)
    language plpgsql
as $$
declare
    claimed int;
    others boolean;
begin
    call rollcall_apply(
        orgs,
        activity_orgs, activity_users, activity_chats, event_types, source_ids,
        edits_at, thread_ids, reply_ids, contents_at, content_update_ids,
        group_orgs, group_chats, titles_at, title_update_ids, events_at,
        activity_memberships, occurred_at, media_types, texts, chars, links, mentions,
        titles, chat_types,
        person_orgs, person_users, usernames, first_names, last_names, full_names,
        profiles_at, profile_update_ids, people_seen_at, people_active_at,
        new_ids,
        member_orgs, member_people, member_chats, members_seen_at,
        joined_at, left_at, wrote_at, member_message_ids,
        busy, unknown,
        met,
        known,
        null, false,
        claimed, others);
end
$$;

-- Of the version before that.
do $$
declare
    oldest regprocedure := (select oid from pg_proc where proname = 'rollcall_apply' and pg_function_is_visible(oid)
                             order by pronargs limit 1);
    former regprocedure := (select oid from pg_proc where proname = 'rollcall_apply' and pg_function_is_visible(oid)
                             order by pronargs offset 1 limit 1);
    newest regprocedure := (select oid from pg_proc where proname = 'rollcall_apply' and pg_function_is_visible(oid)
                             order by pronargs desc limit 1);
begin
    execute format('drop procedure %s', oldest);
    execute format('comment on procedure %s is %L', former, 'What the worker of the version before calls.');
    execute format('comment on procedure %s is %L', newest, 'What the worker calls: writes rows, folded from events, of all '
        'organizations or of none. In read committed only, and with plans of nested loops over indexes only, so that rows are '
        'locked in the order of the arrays.');
end
$$;

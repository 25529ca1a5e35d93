-- The whole write of a transaction in one call: one round trip instead of ten, and the rows that several replicas want are
-- locked for as long as the server needs, not for as long as the network does.

create procedure rollcall_apply(
    -- Sorted. All rows name their organization by its position here.
    orgs uuid[],
    -- people, by organization and user
    person_orgs int[], person_users bigint[], usernames text[], first_names text[], last_names text[], full_names text[],
    profiles_at timestamptz[], profile_update_ids bigint[], people_seen_at timestamptz[], people_active_at timestamptz[],
    -- their places in chats, by organization, user and chat; a person is a position among the people
    member_orgs int[], member_people int[], member_chats bigint[], members_seen_at timestamptz[],
    joined_at timestamptz[], left_at timestamptz[], wrote_at timestamptz[],
    -- what they did, by key
    activity_orgs int[], activity_people int[], activity_users bigint[], activity_chats bigint[], event_types text[],
    source_ids bigint[], occurred_at timestamptz[], edits_at timestamptz[], thread_ids bigint[], reply_ids bigint[],
    media_types text[], texts text[], chars int[], links int[], mentions int[], contents_at timestamptz[],
    content_update_ids bigint[],
    -- the chats, by organization and chat
    group_orgs int[], group_chats bigint[], titles text[], chat_types text[], titles_at timestamptz[],
    title_update_ids bigint[], events_at timestamptz[],
    -- What kept everything from being written: organizations in which people are merged right now, and unknown ones.
    inout busy uuid[], inout unknown uuid[]
)
    language plpgsql
as $$
#variable_conflict use_column
declare
    refused_slots int[];
    zones text[];
    -- of each person: who it is, whether that changes, and, where the user was merged, the survivor with its own user
    ids uuid[];
    is_news boolean[];
    survivors uuid[];
    survivor_users bigint[];
    has_missing boolean;
    has_survivors boolean;
    -- the rows of participants to write
    row_orgs int[];
    row_users bigint[];
    row_ids uuid[];
    written_ids uuid[];
    -- of each activity
    is_new boolean[];
    was_new boolean[];
    is_newer boolean[];
    -- messages that became replies
    reply_orgs uuid[];
    reply_chats bigint[];
    reply_dates date[];
begin
    -- Tries, so that a merge of people delays its own organization only. What follows sees all that was written before.
    select array_agg(slot) into refused_slots
        from (select distinct rollcall_resolver_slot(org) as slot from unnest(orgs) org) s
        where not pg_try_advisory_xact_lock_shared(1919904876, slot);
    if refused_slots is not null then
        busy := array(select org from unnest(orgs) org where rollcall_resolver_slot(org) = any (refused_slots));
        return;
    end if;

    select array_agg(o.timezone), array_agg(n.org) filter (where o.id is null) into zones, unknown
        from (select unnest(orgs) as org) n left join organizations o on o.id = n.org;
    if unknown is not null then
        return;
    end if;

    -- The resolver: finds or creates the participant behind every user. The locks keep merges of people out. Rows that would
    -- not change are not touched; the others are locked in the order of (org_id, tg_user_id), a survivor under its own user.
    -- Lookups are lateral with a limit, here and below, so that no plan can read more than a key's row.
    select array_agg(coalesce(live.id, survivor.id, gen_random_uuid())),
           array_agg(case
               when live.id is not null then
                   rollcall_is_newer(f.profile_at, f.profile_update_id, live.profile_at, live.profile_update_id)
                   or f.seen_at < coalesce(live.first_seen_at, 'infinity')
                   or f.active_at > coalesce(live.last_activity_at, '-infinity')
               when survivor.id is not null then
                   f.seen_at < coalesce(survivor.first_seen_at, 'infinity')
                   or f.active_at > coalesce(survivor.last_activity_at, '-infinity')
               else true
           end is true),
           array_agg(survivor.id), array_agg(survivor.tg_user_id),
           bool_or(live.id is null and survivor.id is null), bool_or(survivor.id is not null)
        into ids, is_news, survivors, survivor_users, has_missing, has_survivors
        from (
            select unnest(person_orgs) as org, unnest(person_users) as tg_user_id, unnest(profiles_at) as profile_at,
                   unnest(profile_update_ids) as profile_update_id, unnest(people_seen_at) as seen_at, unnest(people_active_at) as active_at
        ) f
        left join lateral (
            select p.id, p.profile_at, p.profile_update_id, p.first_seen_at, p.last_activity_at from participants p
            where p.org_id = orgs[f.org] and p.tg_user_id = f.tg_user_id and p.merged_into is null limit 1
        ) live on true
        left join lateral (
            select m.merged_into as id from participants m
            where live.id is null and m.org_id = orgs[f.org] and m.tg_user_id = f.tg_user_id and m.merged_into is not null
            order by m.merged_into limit 1
        ) merged on true
        left join lateral (
            select s.id, s.tg_user_id, s.first_seen_at, s.last_activity_at from participants s
            where s.org_id = orgs[f.org] and s.id = merged.id limit 1
        ) survivor on true;
    row_orgs := person_orgs;
    row_users := person_users;
    row_ids := ids;

    if has_survivors then
        -- survivors without a user of their own
        update participants p
            set first_seen_at = least(p.first_seen_at, n.seen_at), last_activity_at = greatest(p.last_activity_at, n.active_at), updated_at = now()
            from (
                select orgs[f.org] as org_id, f.survivor_id, min(f.seen_at) as seen_at, max(f.active_at) as active_at
                from (
                    select unnest(person_orgs) as org, unnest(survivors) as survivor_id, unnest(survivor_users) as survivor_user,
                           unnest(is_news) as is_news, unnest(people_seen_at) as seen_at, unnest(people_active_at) as active_at
                ) f
                where f.is_news and f.survivor_id is not null and f.survivor_user is null
                group by 1, 2 order by 1, 2
            ) n
            where p.org_id = n.org_id and p.id = n.survivor_id;
        -- A survivor may be named by itself and by those merged into it: one row, its own profile.
        select array_agg(n.org), array_agg(n.tg_user_id), array_agg(n.id), array_agg(n.username), array_agg(n.first_name),
               array_agg(n.last_name), array_agg(n.full_name), array_agg(n.profile_at), array_agg(n.profile_update_id),
               array_agg(n.seen_at), array_agg(n.active_at), array_agg(true)
            into row_orgs, row_users, row_ids, usernames, first_names, last_names, full_names, profiles_at, profile_update_ids,
                 people_seen_at, people_active_at, is_news
            from (
                select f.org, coalesce(f.survivor_user, f.tg_user_id) as tg_user_id, f.id,
                       max(f.username) filter (where f.survivor_id is null) as username,
                       max(f.first_name) filter (where f.survivor_id is null) as first_name,
                       max(f.last_name) filter (where f.survivor_id is null) as last_name,
                       max(f.full_name) filter (where f.survivor_id is null) as full_name,
                       max(f.profile_at) filter (where f.survivor_id is null) as profile_at,
                       max(f.profile_update_id) filter (where f.survivor_id is null) as profile_update_id,
                       min(f.seen_at) as seen_at, max(f.active_at) as active_at
                from (
                    select unnest(person_orgs) as org, unnest(person_users) as tg_user_id, unnest(ids) as id, unnest(survivors) as survivor_id,
                           unnest(survivor_users) as survivor_user, unnest(is_news) as is_news, unnest(usernames) as username,
                           unnest(first_names) as first_name, unnest(last_names) as last_name, unnest(full_names) as full_name,
                           unnest(profiles_at) as profile_at, unnest(profile_update_ids) as profile_update_id,
                           unnest(people_seen_at) as seen_at, unnest(people_active_at) as active_at
                ) f
                where f.is_news and (f.survivor_id is null or f.survivor_user is not null)
                group by 1, 2, 3 order by 1, 2
            ) n;
        -- One place in a chat for all users of a survivor, in the order of the people's rows.
        select array_agg(n.org), array_agg(n.person), array_agg(n.tg_chat_id), array_agg(n.seen_at), array_agg(n.joined_at),
               array_agg(n.left_at), array_agg(n.wrote_at)
            into member_orgs, member_people, member_chats, members_seen_at, joined_at, left_at, wrote_at
            from (
                select m.org, min(m.person) as person, m.tg_chat_id, min(m.seen_at) as seen_at, max(m.joined_at) as joined_at,
                       max(m.left_at) as left_at, max(m.wrote_at) as wrote_at
                from (
                    select unnest(member_orgs) as org, unnest(member_people) as person, unnest(member_chats) as tg_chat_id,
                           unnest(members_seen_at) as seen_at, unnest(joined_at) as joined_at, unnest(left_at) as left_at,
                           unnest(wrote_at) as wrote_at
                ) m
                group by m.org, case when survivors[m.person] is null then person_users[m.person] else survivor_users[m.person] end,
                         ids[m.person], m.tg_chat_id
                order by m.org, case when survivors[m.person] is null then person_users[m.person] else survivor_users[m.person] end,
                         ids[m.person], m.tg_chat_id
            ) n;
    end if;

    if true = any (is_news) then
        with written as (
            insert into participants as p (org_id, id, tg_user_id, username, tg_first_name, tg_last_name, full_name, tg_full_name,
                                           profile_at, profile_update_id, first_seen_at, last_activity_at, source)
            select orgs[n.org], n.id, n.tg_user_id, n.username, n.first_name, n.last_name, n.full_name, n.full_name,
                   n.profile_at, n.profile_update_id, n.seen_at, n.active_at, 'telegram_group'
            from (
                select unnest(row_orgs) as org, unnest(row_ids) as id, unnest(row_users) as tg_user_id, unnest(usernames) as username,
                       unnest(first_names) as first_name, unnest(last_names) as last_name, unnest(full_names) as full_name,
                       unnest(profiles_at) as profile_at, unnest(profile_update_ids) as profile_update_id,
                       unnest(people_seen_at) as seen_at, unnest(people_active_at) as active_at, unnest(is_news) as is_news
            ) n
            where n.is_news
            on conflict (org_id, tg_user_id) where tg_user_id is not null and merged_into is null do update set
                username          = case when rollcall_is_newer(excluded.profile_at, excluded.profile_update_id, p.profile_at, p.profile_update_id)
                                         then excluded.username else p.username end,
                tg_first_name     = case when rollcall_is_newer(excluded.profile_at, excluded.profile_update_id, p.profile_at, p.profile_update_id)
                                         then excluded.tg_first_name else p.tg_first_name end,
                tg_last_name      = case when rollcall_is_newer(excluded.profile_at, excluded.profile_update_id, p.profile_at, p.profile_update_id)
                                         then excluded.tg_last_name else p.tg_last_name end,
                -- a name that differs from what the worker last wrote was edited by a person
                full_name         = case when rollcall_is_newer(excluded.profile_at, excluded.profile_update_id, p.profile_at, p.profile_update_id)
                                              and p.full_name is not distinct from p.tg_full_name
                                         then excluded.full_name else p.full_name end,
                tg_full_name      = case when rollcall_is_newer(excluded.profile_at, excluded.profile_update_id, p.profile_at, p.profile_update_id)
                                              and p.full_name is not distinct from p.tg_full_name
                                         then excluded.tg_full_name else p.tg_full_name end,
                profile_update_id = case when rollcall_is_newer(excluded.profile_at, excluded.profile_update_id, p.profile_at, p.profile_update_id)
                                         then excluded.profile_update_id else p.profile_update_id end,
                profile_at        = greatest(p.profile_at, excluded.profile_at),
                first_seen_at     = least(p.first_seen_at, excluded.first_seen_at),
                last_activity_at  = greatest(p.last_activity_at, excluded.last_activity_at),
                updated_at        = now()
            returning p.id
        )
        select array_agg(id) into written_ids from written;
        if has_missing and written_ids <> array(select id from (select unnest(row_ids) as id, unnest(is_news) as is_news) n where n.is_news) then
            -- Another transaction created some of them meanwhile.
            ids := array(
                select coalesce(survivor_id, (
                    select p.id from participants p
                    where p.org_id = orgs[n.org] and p.tg_user_id = n.tg_user_id and p.merged_into is null limit 1))
                from (
                    select unnest(person_orgs) as org, unnest(person_users) as tg_user_id, unnest(survivors) as survivor_id
                ) n);
        end if;
    end if;

    -- and their places in chats, in the same order
    insert into participant_groups as g (org_id, participant_id, tg_chat_id, first_seen_at, last_joined_at, last_left_at, last_message_at)
        select n.org_id, n.participant_id, n.tg_chat_id, n.seen_at, n.joined_at, n.left_at, n.wrote_at
        from (
            select orgs[m.org] as org_id, ids[m.person] as participant_id, m.* from (
                select unnest(member_orgs) as org, unnest(member_people) as person, unnest(member_chats) as tg_chat_id,
                       unnest(members_seen_at) as seen_at, unnest(joined_at) as joined_at, unnest(left_at) as left_at,
                       unnest(wrote_at) as wrote_at
            ) m
        ) n
        left join lateral (
            select * from participant_groups o
            where o.org_id = n.org_id and o.participant_id = n.participant_id and o.tg_chat_id = n.tg_chat_id limit 1
        ) old on true
        where old.org_id is null
           or n.seen_at < old.first_seen_at
           or n.joined_at > coalesce(old.last_joined_at, '-infinity')
           or n.left_at > coalesce(old.last_left_at, '-infinity')
           or n.wrote_at > coalesce(old.last_message_at, '-infinity')
        on conflict (org_id, participant_id, tg_chat_id) do update set
            first_seen_at   = least(g.first_seen_at, excluded.first_seen_at),
            last_joined_at  = greatest(g.last_joined_at, excluded.last_joined_at),
            last_left_at    = greatest(g.last_left_at, excluded.last_left_at),
            last_message_at = greatest(g.last_message_at, excluded.last_message_at);

    -- What happened: looked up first, since to conflict costs more; another transaction may still be faster, then once more.
    loop
        select array_agg(a.org_id is null),
               array_agg((a.event_type = 'message' and (
                   rollcall_is_newer(n.content_at, n.content_update_id, a.content_at, a.content_update_id)
                   or n.edited_at > coalesce(a.edited_at, '-infinity')
                   or n.thread_id > coalesce(a.message_thread_id, 0)
                   or n.reply_to > coalesce(a.reply_to_message_id, 0))) is true)
            into is_new, is_newer
            from (
                select unnest(activity_orgs) as org, unnest(activity_users) as tg_user_id, unnest(activity_chats) as tg_chat_id,
                       unnest(event_types) as event_type, unnest(source_ids) as source_id, unnest(edits_at) as edited_at, unnest(thread_ids) as thread_id,
                       unnest(reply_ids) as reply_to, unnest(contents_at) as content_at, unnest(content_update_ids) as content_update_id
            ) n
            left join lateral (
                select a.* from activity_events a
                where a.org_id = orgs[n.org] and a.tg_user_id = n.tg_user_id and a.tg_chat_id = n.tg_chat_id
                  and a.event_type = n.event_type and a.source_id = n.source_id limit 1
            ) a on true;
        exit when not true = any (is_new);
        begin
            insert into activity_events (org_id, tg_chat_id, event_type, source_id, tg_user_id, participant_id, occurred_at, edited_at,
                                         message_thread_id, reply_to_message_id, media_type, message_text, chars_count, links_count,
                                         mentions_count, content_at, content_update_id)
                select orgs[n.org], n.tg_chat_id, n.event_type, n.source_id, n.tg_user_id, ids[n.person],
                       n.occurred_at, n.edited_at, n.thread_id, n.reply_to, n.media_type, n.message_text, n.chars, n.links, n.mentions,
                       n.content_at, n.content_update_id
                from (
                    select unnest(activity_orgs) as org, unnest(activity_people) as person, unnest(activity_users) as tg_user_id,
                           unnest(activity_chats) as tg_chat_id, unnest(event_types) as event_type, unnest(source_ids) as source_id,
                           unnest(occurred_at) as occurred_at, unnest(edits_at) as edited_at,
                           unnest(thread_ids) as thread_id, unnest(reply_ids) as reply_to, unnest(media_types) as media_type,
                           unnest(texts) as message_text, unnest(chars) as chars, unnest(links) as links, unnest(mentions) as mentions,
                           unnest(contents_at) as content_at, unnest(content_update_ids) as content_update_id, unnest(is_new) as is_new
                ) n
                where n.is_new;
            exit;
        exception when unique_violation then
            if is_new = was_new then
                raise;
            end if;
            was_new := is_new;
        end;
    end loop;

    -- messages that exist get what is newer
    if true = any (is_newer) then
        with known as (
            select n.*, a.reply_to_message_id is null as was_no_reply
            from (
                select unnest(activity_orgs) as org, unnest(activity_users) as tg_user_id, unnest(activity_chats) as tg_chat_id,
                       unnest(event_types) as event_type, unnest(source_ids) as source_id, unnest(edits_at) as edited_at,
                       unnest(thread_ids) as thread_id, unnest(reply_ids) as reply_to, unnest(media_types) as media_type,
                       unnest(texts) as message_text, unnest(chars) as chars, unnest(links) as links, unnest(mentions) as mentions,
                       unnest(contents_at) as content_at, unnest(content_update_ids) as content_update_id, unnest(is_newer) as is_newer
            ) n
            join activity_events a on a.org_id = orgs[n.org] and a.tg_user_id = n.tg_user_id and a.tg_chat_id = n.tg_chat_id
                and a.event_type = n.event_type and a.source_id = n.source_id
            where n.is_newer
            for no key update of a
        ),
        revised as (
            update activity_events a
            set media_type          = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then k.media_type else a.media_type end,
                message_text        = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then k.message_text else a.message_text end,
                chars_count         = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then k.chars else a.chars_count end,
                links_count         = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then k.links else a.links_count end,
                mentions_count      = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then k.mentions else a.mentions_count end,
                content_update_id   = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then k.content_update_id else a.content_update_id end,
                content_at          = greatest(a.content_at, k.content_at),
                edited_at           = greatest(a.edited_at, k.edited_at),
                message_thread_id   = greatest(a.message_thread_id, k.thread_id),
                reply_to_message_id = greatest(a.reply_to_message_id, k.reply_to)
            from known k
            where a.org_id = orgs[k.org] and a.tg_user_id = k.tg_user_id and a.tg_chat_id = k.tg_chat_id
              and a.event_type = k.event_type and a.source_id = k.source_id
            returning a.org_id, a.tg_chat_id, (a.occurred_at at time zone zones[k.org])::date as date,
                      k.was_no_reply and a.reply_to_message_id is not null as became_reply
        )
        select array_agg(org_id), array_agg(tg_chat_id), array_agg(date) into reply_orgs, reply_chats, reply_dates
            from revised where became_reply;
    end if;

    -- Adds what really was new in this transaction; nothing else may ever count here.
    if true = any (is_new) or reply_orgs is not null then
        with fresh as (
            select orgs[n.org] as org_id, n.tg_chat_id, n.event_type, n.tg_user_id, n.reply_to,
                   (n.occurred_at at time zone zones[n.org])::date as date
            from (
                select unnest(activity_orgs) as org, unnest(activity_users) as tg_user_id, unnest(activity_chats) as tg_chat_id,
                       unnest(event_types) as event_type, unnest(occurred_at) as occurred_at, unnest(reply_ids) as reply_to,
                       unnest(is_new) as is_new
            ) n
            where n.is_new
        ),
        newcomers as (
            insert into group_daily_users (org_id, tg_chat_id, date, event_type, tg_user_id)
            select f.* from (
                select distinct org_id, tg_chat_id, date, event_type, tg_user_id from fresh order by 1, 2, 3, 4, 5
            ) f
            -- most wrote before; to conflict costs more than to look
            where not exists (
                select from group_daily_users u
                where u.org_id = f.org_id and u.tg_chat_id = f.tg_chat_id and u.date = f.date and u.event_type = f.event_type
                  and u.tg_user_id = f.tg_user_id)
            on conflict do nothing
            returning org_id, tg_chat_id, date, event_type
        )
        insert into group_metrics as m (org_id, tg_chat_id, date, message_count, reply_count, dau, join_count, leave_count)
        select org_id, tg_chat_id, date, sum(messages), sum(replies), sum(writers), sum(joined), sum(gone)
        from (
            select org_id, tg_chat_id, date, count(*) filter (where event_type = 'message') as messages, count(reply_to) as replies,
                   0 as writers, 0 as joined, 0 as gone
            from fresh group by 1, 2, 3
            union all
            select org_id, tg_chat_id, date, 0, 0, count(*) filter (where event_type = 'message'),
                   count(*) filter (where event_type = 'join'), count(*) filter (where event_type = 'leave')
            from newcomers group by 1, 2, 3
            union all
            select unnest(reply_orgs), unnest(reply_chats), unnest(reply_dates), 0, 1, 0, 0, 0
        ) added
        group by 1, 2, 3
        -- somebody's second join of a day adds nothing
        having sum(messages) + sum(replies) + sum(writers) + sum(joined) + sum(gone) > 0
        order by 1, 2, 3
        on conflict (org_id, tg_chat_id, date) do update set
            message_count = m.message_count + excluded.message_count,
            reply_count   = m.reply_count + excluded.reply_count,
            dau           = m.dau + excluded.dau,
            join_count    = m.join_count + excluded.join_count,
            leave_count   = m.leave_count + excluded.leave_count;
    end if;

    -- Last, because every transaction of an organization meets in these rows.
    insert into org_telegram_groups as g (org_id, tg_chat_id, title, chat_type, title_at, title_update_id, last_event_at)
        select orgs[n.org], n.tg_chat_id, n.title, n.chat_type, n.title_at, n.title_update_id, n.event_at
        from (
            select unnest(group_orgs) as org, unnest(group_chats) as tg_chat_id, unnest(titles) as title, unnest(chat_types) as chat_type,
                   unnest(titles_at) as title_at, unnest(title_update_ids) as title_update_id, unnest(events_at) as event_at
        ) n
        left join lateral (
            select * from org_telegram_groups o where o.org_id = orgs[n.org] and o.tg_chat_id = n.tg_chat_id limit 1
        ) old on true
        where old.org_id is null
           or rollcall_is_newer(n.title_at, n.title_update_id, old.title_at, old.title_update_id)
           or n.event_at > coalesce(old.last_event_at, '-infinity')
        on conflict (org_id, tg_chat_id) do update set
            title           = case when rollcall_is_newer(excluded.title_at, excluded.title_update_id, g.title_at, g.title_update_id) then excluded.title else g.title end,
            chat_type       = case when rollcall_is_newer(excluded.title_at, excluded.title_update_id, g.title_at, g.title_update_id) then excluded.chat_type else g.chat_type end,
            title_update_id = case when rollcall_is_newer(excluded.title_at, excluded.title_update_id, g.title_at, g.title_update_id) then excluded.title_update_id else g.title_update_id end,
            title_at        = greatest(g.title_at, excluded.title_at),
            last_event_at   = greatest(g.last_event_at, excluded.last_event_at),
            updated_at      = now();
end
$$;

comment on procedure rollcall_apply is
    'What the worker calls: writes rows, folded from events, of all organizations or of none. In read committed only, and '
    'with plans of nested loops over indexes only, so that rows are locked in the order of the arrays.';

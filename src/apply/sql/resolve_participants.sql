-- The resolver: finds or creates the participant behind every user. The transaction already holds the
-- resolver locks, so nobody merges people meanwhile. Existing rows that would not change are not
-- touched. Rows are locked in the order of (org_id, tg_user_id), a survivor under its own user id.
-- Lookups are lateral with a limit, here and elsewhere, so that no plan can read more than a key's row.
with fact as (
    select f.org_id, f.tg_user_id, f.username, f.first_name, f.last_name, f.full_name,
           to_timestamp(f.profile_at) as profile_at, f.profile_update_id,
           to_timestamp(f.first_seen_at) as first_seen_at, to_timestamp(f.last_activity_at) as last_activity_at
    from (
        select unnest($1::uuid[]) as org_id, unnest($2::bigint[]) as tg_user_id, unnest($3::text[]) as username,
               unnest($4::text[]) as first_name, unnest($5::text[]) as last_name, unnest($6::text[]) as full_name,
               unnest($7::bigint[]) as profile_at, unnest($8::bigint[]) as profile_update_id,
               unnest($9::bigint[]) as first_seen_at, unnest($10::bigint[]) as last_activity_at
    ) f
),
target as materialized (
    select f.*, live.id as live_id, survivor.id as survivor_id, survivor.tg_user_id as survivor_tg_user_id,
           case
               when live.id is not null then
                   rollcall_is_newer(f.profile_at, f.profile_update_id, live.profile_at, live.profile_update_id)
                   or f.first_seen_at < coalesce(live.first_seen_at, 'infinity')
                   or f.last_activity_at > coalesce(live.last_activity_at, '-infinity')
               when survivor.id is not null then
                   f.first_seen_at < coalesce(survivor.first_seen_at, 'infinity')
                   or f.last_activity_at > coalesce(survivor.last_activity_at, '-infinity')
               else true
           end is true as is_news
    from fact f
    left join lateral (
        select * from participants p
        where p.org_id = f.org_id and p.tg_user_id = f.tg_user_id and p.merged_into is null limit 1
    ) live on true
    left join lateral (
        select m.merged_into as id from participants m
        where live.id is null and m.org_id = f.org_id and m.tg_user_id = f.tg_user_id and m.merged_into is not null
        order by m.merged_into limit 1
    ) merged on true
    left join participants survivor on survivor.org_id = f.org_id and survivor.id = merged.id
),
proposal as (
    -- a survivor may be named by itself and by those merged into it: one row, its own profile
    select org_id, coalesce(survivor_tg_user_id, tg_user_id) as tg_user_id,
           max(username) filter (where survivor_id is null) as username,
           max(first_name) filter (where survivor_id is null) as first_name,
           max(last_name) filter (where survivor_id is null) as last_name,
           max(full_name) filter (where survivor_id is null) as full_name,
           max(profile_at) filter (where survivor_id is null) as profile_at,
           max(profile_update_id) filter (where survivor_id is null) as profile_update_id,
           min(first_seen_at) as first_seen_at, max(last_activity_at) as last_activity_at
    from target
    where is_news and (survivor_id is null or survivor_tg_user_id is not null)
    group by 1, 2
),
written as (
    insert into participants as p (org_id, tg_user_id, username, tg_first_name, tg_last_name, full_name, tg_full_name,
                                   profile_at, profile_update_id, first_seen_at, last_activity_at, source)
    select org_id, tg_user_id, username, first_name, last_name, full_name, full_name,
           profile_at, profile_update_id, first_seen_at, last_activity_at, 'telegram_group'
    from proposal
    order by org_id, tg_user_id
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
    returning p.org_id, p.tg_user_id, p.id
),
-- survivors without a user id of their own
grown as (
    update participants p
    set first_seen_at = least(p.first_seen_at, n.first_seen_at), last_activity_at = greatest(p.last_activity_at, n.last_activity_at), updated_at = now()
    from (
        select org_id, survivor_id, min(first_seen_at) as first_seen_at, max(last_activity_at) as last_activity_at
        from target where is_news and survivor_id is not null and survivor_tg_user_id is null
        group by 1, 2 order by 1, 2
    ) n
    where p.org_id = n.org_id and p.id = n.survivor_id
)
select org_id, tg_user_id, id from written
union all
select org_id, tg_user_id, coalesce(survivor_id, live_id) from target where survivor_id is not null or not is_news

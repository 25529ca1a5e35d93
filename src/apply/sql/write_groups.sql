-- Last, because every batch of an organization meets in these rows.
insert into org_telegram_groups as g (org_id, tg_chat_id, title, chat_type, title_at, title_update_id, last_event_at)
select n.org_id, n.tg_chat_id, n.title, n.chat_type, to_timestamp(n.title_at), n.title_update_id, to_timestamp(n.last_event_at)
from (
    select unnest($1::uuid[]) as org_id, unnest($2::bigint[]) as tg_chat_id, unnest($3::text[]) as title,
           unnest($4::text[]) as chat_type, unnest($5::bigint[]) as title_at, unnest($6::bigint[]) as title_update_id,
           unnest($7::bigint[]) as last_event_at
) n
left join lateral (
    select * from org_telegram_groups o where o.org_id = n.org_id and o.tg_chat_id = n.tg_chat_id limit 1
) old on true
where old.org_id is null
   or rollcall_is_newer(to_timestamp(n.title_at), n.title_update_id, old.title_at, old.title_update_id)
   or to_timestamp(n.last_event_at) > coalesce(old.last_event_at, '-infinity')
on conflict (org_id, tg_chat_id) do update set
    title           = case when rollcall_is_newer(excluded.title_at, excluded.title_update_id, g.title_at, g.title_update_id) then excluded.title else g.title end,
    chat_type       = case when rollcall_is_newer(excluded.title_at, excluded.title_update_id, g.title_at, g.title_update_id) then excluded.chat_type else g.chat_type end,
    title_update_id = case when rollcall_is_newer(excluded.title_at, excluded.title_update_id, g.title_at, g.title_update_id) then excluded.title_update_id else g.title_update_id end,
    title_at        = greatest(g.title_at, excluded.title_at),
    last_event_at   = greatest(g.last_event_at, excluded.last_event_at),
    updated_at      = now()

insert into participant_groups as g (org_id, participant_id, tg_chat_id, first_seen_at, last_joined_at, last_left_at, last_message_at)
select n.org_id, n.participant_id, n.tg_chat_id, to_timestamp(n.first_seen_at),
       to_timestamp(n.last_joined_at), to_timestamp(n.last_left_at), to_timestamp(n.last_message_at)
from (
    select unnest($1::uuid[]) as org_id, unnest($2::uuid[]) as participant_id, unnest($3::bigint[]) as tg_chat_id,
           unnest($4::bigint[]) as first_seen_at, unnest($5::bigint[]) as last_joined_at, unnest($6::bigint[]) as last_left_at,
           unnest($7::bigint[]) as last_message_at
) n
left join lateral (
    select * from participant_groups o
    where o.org_id = n.org_id and o.participant_id = n.participant_id and o.tg_chat_id = n.tg_chat_id limit 1
) old on true
where old.org_id is null
   or to_timestamp(n.first_seen_at) < old.first_seen_at
   or to_timestamp(n.last_joined_at) > coalesce(old.last_joined_at, '-infinity')
   or to_timestamp(n.last_left_at) > coalesce(old.last_left_at, '-infinity')
   or to_timestamp(n.last_message_at) > coalesce(old.last_message_at, '-infinity')
on conflict (org_id, participant_id, tg_chat_id) do update set
    first_seen_at   = least(g.first_seen_at, excluded.first_seen_at),
    last_joined_at  = greatest(g.last_joined_at, excluded.last_joined_at),
    last_left_at    = greatest(g.last_left_at, excluded.last_left_at),
    last_message_at = greatest(g.last_message_at, excluded.last_message_at)

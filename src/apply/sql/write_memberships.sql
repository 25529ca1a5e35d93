insert into participant_groups as g (org_id, participant_id, tg_chat_id, first_seen_at, last_joined_at, last_left_at, last_message_at)
select n.org_id, n.participant_id, n.tg_chat_id, to_timestamp(n.first_seen_at),
       to_timestamp(n.last_joined_at), to_timestamp(n.last_left_at), to_timestamp(n.last_message_at)
from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) with ordinality
    as n (org_id, participant_id, tg_chat_id, first_seen_at, last_joined_at, last_left_at, last_message_at, position)
left join lateral (
    select * from participant_groups o
    where o.org_id = n.org_id and o.participant_id = n.participant_id and o.tg_chat_id = n.tg_chat_id limit 1
) old on true
where old.org_id is null
   or to_timestamp(n.first_seen_at) < old.first_seen_at
   or to_timestamp(n.last_joined_at) > coalesce(old.last_joined_at, '-infinity')
   or to_timestamp(n.last_left_at) > coalesce(old.last_left_at, '-infinity')
   or to_timestamp(n.last_message_at) > coalesce(old.last_message_at, '-infinity')
order by n.position
on conflict (org_id, participant_id, tg_chat_id) do update set
    first_seen_at   = least(g.first_seen_at, excluded.first_seen_at),
    last_joined_at  = greatest(g.last_joined_at, excluded.last_joined_at),
    last_left_at    = greatest(g.last_left_at, excluded.last_left_at),
    last_message_at = greatest(g.last_message_at, excluded.last_message_at)

select n.position
from unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[]) with ordinality
    as n (org_id, tg_chat_id, event_type, source_id, tg_user_id, position)
where exists (select from activity_events a where (a.org_id, a.tg_chat_id, a.event_type, a.source_id, a.tg_user_id)
    = (n.org_id, n.tg_chat_id, n.event_type, n.source_id, n.tg_user_id))

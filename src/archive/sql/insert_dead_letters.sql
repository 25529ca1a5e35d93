insert into dead_letters as d (reason, detail, org_id, routing_key, headers, body, attempts)
select n.reason, n.detail, n.org_id, n.routing_key, n.headers::jsonb, n.body, n.attempts
from unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::bytea[], $7::int[]) with ordinality
    as n (reason, detail, org_id, routing_key, headers, body, attempts, position)
order by n.position
on conflict (body_sha256) do update set
    received_at = now(),
    reason      = excluded.reason,
    detail      = excluded.detail,
    routing_key = excluded.routing_key,
    headers     = excluded.headers,
    attempts    = d.attempts + excluded.attempts,
    status      = 'parked',
    resolved_at = null

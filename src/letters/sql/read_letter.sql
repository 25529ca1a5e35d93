select id, fingerprint, rollcall_utc(first_received_at) as first_received_at, rollcall_utc(received_at) as received_at, reason, detail, kind, path,
       sqlstate, constraint_name, org_id, routing_key, headers, body, encode(body_sha256, 'hex') as sha256, attempts, status,
       rollcall_utc(resolved_at) as resolved_at
from dead_letters
where id = $1

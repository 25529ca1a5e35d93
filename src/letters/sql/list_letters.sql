select id, fingerprint, rollcall_utc(received_at) as received_at, reason, kind, detail, org_id, status, attempts, octet_length(body) as bytes
from chosen
order by chosen.id desc
limit $8

select fingerprint, reason, kind, path, sqlstate, constraint_name, count(*) as letters, count(distinct org_id) as organizations,
       rollcall_utc(min(first_received_at)) as first_seen, rollcall_utc(max(received_at)) as last_seen, max(id) as example
from chosen
group by 1, 2, 3, 4, 5, 6
order by letters desc, fingerprint

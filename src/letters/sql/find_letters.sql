select id, attempts, status, org_id, octet_length(body) as bytes
from chosen
order by chosen.org_id nulls last, chosen.id

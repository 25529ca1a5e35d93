select d.id, d.reason, d.routing_key, d.body
from unnest($1::bigint[]) with ordinality as n (id, position)
join dead_letters d on d.id = n.id
order by n.position

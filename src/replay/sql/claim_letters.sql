-- In the order of the key, as everybody locks several of these rows.
select id, attempts, status, reason || ': ' || detail as why
from dead_letters
where id = any($1)
order by body_sha256
for update

insert into dead_letter_replay_items (replay_id, letter_id, attempts)
select $1, d.id, n.attempts
from unnest($2::bigint[], $3::int[]) as n (id, attempts)
join dead_letters d on d.id = n.id

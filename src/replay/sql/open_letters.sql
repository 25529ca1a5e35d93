select i.letter_id, i.attempts, octet_length(d.body) as bytes, i.detail as predicted
from dead_letter_replay_items i
join dead_letters d on d.id = i.letter_id
where i.replay_id = $1 and i.state = $2 and i.state in ('waiting', 'published')
order by i.letter_id
limit $3

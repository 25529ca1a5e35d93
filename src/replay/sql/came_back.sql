select d.id, d.attempts, d.status, d.reason || ': ' || d.detail as why
from dead_letter_replay_items i
join dead_letters d on d.id = i.letter_id
where i.replay_id = $1 and i.letter_id = any($2) and d.attempts > i.attempts

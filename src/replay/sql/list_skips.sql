select letter_id as letter, detail as why
from dead_letter_replay_items
where replay_id = $1 and state = 'skipped'
order by letter_id
limit $2

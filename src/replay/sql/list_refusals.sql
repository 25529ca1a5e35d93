select detail as why, count(*) as letters, min(letter_id) as example
from dead_letter_replay_items
where replay_id = $1 and state = 'refused'
group by 1
order by letters desc, example
limit $2

select rollcall_utc(at) as at, what, who, replay_id, detail
from dead_letter_history
where letter_id = $1
order by id

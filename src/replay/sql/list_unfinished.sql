-- Letters that were resolved otherwise meanwhile no longer wait for it.
select r.id, rollcall_utc(r.started_at) as started_at, r.started_by, count(*) as letters
from dead_letter_replays r
join dead_letter_replay_items i on i.replay_id = r.id
join dead_letters d on d.id = i.letter_id
where r.finished_at is null
  and (i.state = 'published' or (i.state = 'waiting' and d.status = 'parked' and d.attempts = i.attempts))
group by r.id
order by r.id

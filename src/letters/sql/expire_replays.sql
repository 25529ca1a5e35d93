delete from dead_letter_replays r
where r.started_at < now() - make_interval(secs => $1)
  and not exists (select from dead_letter_replay_items i where i.replay_id = r.id)

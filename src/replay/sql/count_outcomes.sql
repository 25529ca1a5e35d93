select state, count(*) from dead_letter_replay_items where replay_id = $1 group by 1

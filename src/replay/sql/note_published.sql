with n as (select * from unnest($3::bigint[], $4::text[]) as n (id, predicted)),
items as (
    update dead_letter_replay_items i set state = 'published', detail = n.predicted
    from n
    where i.replay_id = $1 and i.letter_id = n.id
),
letters as (
    update dead_letters d set status = 'replayed', resolved_at = now()
    from n
    where d.id = n.id
)
insert into dead_letter_history (letter_id, what, who, replay_id)
select id, 'published', $2, $1 from n

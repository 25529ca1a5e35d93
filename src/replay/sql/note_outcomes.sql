with n as (select * from unnest($3::bigint[], $4::text[], $5::text[]) as n (id, state, why)),
items as (
    update dead_letter_replay_items i set state = n.state, detail = n.why
    from n
    where i.replay_id = $1 and i.letter_id = n.id and i.state in ('waiting', 'published')
    returning i.letter_id, i.state, i.detail
)
insert into dead_letter_history (letter_id, what, who, replay_id, detail)
select letter_id, state, $2, $1, detail from items

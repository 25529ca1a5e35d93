-- Only those that are as they were when somebody looked at them; in the order of the key, as everybody locks them.
with locked as (
    select d.id
    from unnest($1::bigint[], $2::int[]) as n (id, attempts)
    join dead_letters d on d.id = n.id
    where d.attempts = n.attempts and d.status = $3
    order by d.body_sha256
    for update of d
),
resolved as (
    update dead_letters d
    set status = $4, resolved_at = case when $4 = 'parked' then null else now() end
    from locked
    where d.id = locked.id
    returning d.id
)
insert into dead_letter_history (letter_id, what, who, detail)
select id, $5, $6, $7 from resolved

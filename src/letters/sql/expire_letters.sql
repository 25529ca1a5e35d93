delete from dead_letters
where id in (
    select id
    from dead_letters
    where resolved_at < now() - make_interval(secs => $1)
    order by body_sha256
    limit $2
    for update skip locked
)

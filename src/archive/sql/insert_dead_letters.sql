-- In the order of the key, as everybody locks several of these rows.
with stored as (
    insert into dead_letters as d (reason, detail, kind, path, sqlstate, constraint_name, org_id, routing_key, headers, body, attempts)
    select n.reason, n.detail, n.kind, n.path, n.sqlstate, n.constraint_name, n.org_id, n.routing_key, n.headers::jsonb, n.body, n.attempts
    from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::uuid[], $8::text[], $9::text[], $10::bytea[], $11::int[])
        as n (reason, detail, kind, path, sqlstate, constraint_name, org_id, routing_key, headers, body, attempts)
    order by sha256(n.body)
    on conflict (body_sha256) do update set
        received_at     = now(),
        reason          = excluded.reason,
        detail          = excluded.detail,
        kind            = excluded.kind,
        path            = excluded.path,
        sqlstate        = excluded.sqlstate,
        constraint_name = excluded.constraint_name,
        routing_key     = excluded.routing_key,
        headers         = excluded.headers,
        attempts        = d.attempts + excluded.attempts,
        status          = 'parked',
        resolved_at     = null
    returning id, reason, detail, attempts
)
insert into dead_letter_history (letter_id, what, who, detail)
select id, 'arrived', 'rollcall', reason || ': ' || detail from stored where attempts <= 100

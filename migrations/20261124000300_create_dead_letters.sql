-- Events that could not be applied, for people to look at and replay.

create table dead_letters (
    id          bigint      not null generated always as identity,
    received_at timestamptz not null default now(),
    reason      text        not null,
    detail      text        not null default '',
    org_id      uuid,
    routing_key text        not null default '',
    headers     jsonb       not null default '{}',
    body        bytea       not null,
    body_sha256 bytea       not null generated always as (sha256(body)) stored,
    attempts    int         not null default 1,
    status      text        not null default 'parked',
    resolved_at timestamptz,
    constraint dead_letters_pkey primary key (id),
    constraint dead_letters_body_unique unique (body_sha256),
    constraint dead_letters_reason_known check (reason in ('too_large', 'malformed_json', 'invalid_envelope', 'invalid_event',
        'unknown_org', 'unmapped_chat', 'database_rejected', 'retries_exhausted', 'quarantined', 'foreign')),
    constraint dead_letters_status_known check (status in ('parked', 'replayed', 'discarded')),
    constraint dead_letters_resolved_when_not_parked check ((status = 'parked') = (resolved_at is null)),
    constraint dead_letters_attempts_positive check (attempts > 0)
);

comment on table dead_letters is 'One row per distinct body; dead-lettered again, it takes the latest reason and is parked again.';
comment on column dead_letters.received_at is 'When it last arrived.';
comment on column dead_letters.reason is 'Why, as a code.';
comment on column dead_letters.detail is 'Why, for people; no names or texts.';
comment on column dead_letters.org_id is 'The organization that the body names, where it can be read that far; not checked, so no foreign key.';
comment on column dead_letters.routing_key is 'As published.';
comment on column dead_letters.headers is 'AMQP headers of the dead letter; not trusted.';
comment on column dead_letters.body is 'The exact bytes.';
comment on column dead_letters.attempts is 'How often it was dead-lettered.';
comment on column dead_letters.status is 'parked, replayed or discarded.';
comment on column dead_letters.resolved_at is 'When it left parked.';

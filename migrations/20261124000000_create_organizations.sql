-- Organizations and their groups: the rows that people own and that the worker looks up.

create function rollcall_resolver_slot(org_id uuid) returns int
    language sql immutable strict parallel safe
    return get_byte(uuid_send(org_id), 15);

comment on function rollcall_resolver_slot is
    'The advisory lock that stands for the organization''s resolver, one of 256: pg_advisory_xact_lock(1919904876, slot). '
    'The worker holds it shared while it resolves and writes; whoever merges participants or deletes the organization holds it exclusively.';

create function rollcall_is_newer(at timestamptz, update_id bigint, than_at timestamptz, than_update_id bigint) returns boolean
    language sql immutable parallel safe
    return ((at, update_id) > (coalesce(than_at, '-infinity'), coalesce(than_update_id, 0))) is true;

comment on function rollcall_is_newer is
    'Whether a version, a time and an update id, replaces another: nothing replaces anything, anything replaces nothing.';

create table organizations (
    id         uuid        not null,
    name       text        not null,
    timezone   text        not null default 'UTC',
    created_at timestamptz not null default now(),
    constraint organizations_pkey primary key (id),
    -- an unknown zone raises 22023 here instead of in every later transaction of the organization
    constraint organizations_timezone_known check ((timestamptz 'epoch' at time zone timezone) is not null)
);

comment on table organizations is 'Who runs groups. Written by people; the worker only reads it.';
comment on column organizations.timezone is 'IANA name; the days of group_metrics are days of this zone.';

create table org_telegram_groups (
    org_id          uuid        not null,
    tg_chat_id      bigint      not null,
    title           text,
    chat_type       text,
    status          text        not null default 'observed',
    last_event_at   timestamptz,
    title_at        timestamptz,
    title_update_id bigint,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    constraint org_telegram_groups_pkey primary key (org_id, tg_chat_id),
    constraint org_telegram_groups_org_fkey foreign key (org_id) references organizations (id),
    constraint org_telegram_groups_chat_id_not_zero check (tg_chat_id <> 0),
    constraint org_telegram_groups_chat_type_known check (chat_type in ('group', 'supergroup')),
    constraint org_telegram_groups_status_known check (status in ('active', 'archived', 'observed')),
    constraint org_telegram_groups_title_version_whole check ((title_at is null) = (title_update_id is null))
) with (fillfactor = 80);

-- bare updates are routed by chat alone
create index org_telegram_groups_active_chat on org_telegram_groups (tg_chat_id, org_id) where status = 'active';

comment on table org_telegram_groups is 'The chats of an organization.';
comment on column org_telegram_groups.status is 'Only people make it active, and only active rows route bare updates; the worker creates rows as observed.';
comment on column org_telegram_groups.title is 'Of the newest event that names one; title and chat_type change together.';
comment on column org_telegram_groups.last_event_at is 'Greatest date of all events, of an edit its edit_date; null until the worker saw one.';
comment on column org_telegram_groups.title_at is 'Version of title and chat_type: only a greater (title_at, title_update_id) replaces them.';
comment on column org_telegram_groups.title_update_id is 'Second half of the version.';

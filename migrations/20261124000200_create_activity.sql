-- What happened, and the daily figures that always equal its recomputation.

-- The hot tables have no foreign keys: a check per row would be a tenth of the write. The worker writes
-- them in the transaction that wrote the participant, under the resolver lock that deleting an
-- organization waits for; the trigger at the end of this file stands in for the key.
create table activity_events (
    org_id              uuid        not null,
    tg_chat_id          bigint      not null,
    event_type          text        not null,
    source_id           bigint      not null,
    tg_user_id          bigint      not null,
    participant_id      uuid        not null,
    occurred_at         timestamptz not null,
    edited_at           timestamptz,
    message_thread_id   bigint,
    reply_to_message_id bigint,
    media_type          text,
    has_media           boolean     not null generated always as (media_type is not null) stored,
    message_text        text,
    chars_count         int         not null default 0,
    links_count         int         not null default 0,
    mentions_count      int         not null default 0,
    content_at          timestamptz not null,
    content_update_id   bigint      not null,
    recorded_at         timestamptz not null default now(),
    constraint activity_events_pkey primary key (org_id, tg_chat_id, event_type, source_id, tg_user_id),
    constraint activity_events_type_known check (event_type in ('message', 'join', 'leave'))
);

-- what one person did, and merging people
create index activity_events_participant on activity_events (org_id, participant_id, occurred_at);

comment on table activity_events is 'One row per message, join and leave.';
comment on column activity_events.event_type is 'message, join or leave.';
comment on column activity_events.source_id is 'The message id, or minus the update id where the update has no message.';
comment on column activity_events.tg_user_id is 'Who did it on Telegram; stays when people are merged.';
comment on column activity_events.participant_id is 'Who did it here; merging moves it to the survivor.';
comment on column activity_events.occurred_at is 'The update''s date; for an edited message its original date.';
comment on column activity_events.edited_at is 'Greatest edit_date.';
comment on column activity_events.message_thread_id is 'Greatest that was named for this message.';
comment on column activity_events.reply_to_message_id is 'Greatest that was named for this message; null where the message only hangs under a topic''s root.';
comment on column activity_events.media_type is 'The content field''s name in the Bot API; null for plain text.';
comment on column activity_events.message_text is 'Text or caption; null when limits.store_text is off.';
comment on column activity_events.chars_count is 'UTF-16 code units of text or caption, as Telegram counts.';
comment on column activity_events.links_count is 'Entities url and text_link.';
comment on column activity_events.mentions_count is 'Entities mention and text_mention.';
comment on column activity_events.content_at is 'Version of text, counts and media: only a greater (content_at, content_update_id) replaces them; the original has (date, 0).';
comment on column activity_events.content_update_id is 'Second half of the version.';

create table group_metrics (
    org_id            uuid   not null,
    tg_chat_id        bigint not null,
    date              date   not null,
    message_count     int    not null default 0,
    reply_count       int    not null default 0,
    dau               int    not null default 0,
    join_count        int    not null default 0,
    leave_count       int    not null default 0,
    reply_ratio       int    not null generated always as
        (case when message_count = 0 then 0 else round(100.0 * reply_count / message_count)::int end) stored,
    net_member_change int    not null generated always as (join_count - leave_count) stored,
    constraint group_metrics_pkey primary key (org_id, tg_chat_id, date),
    constraint group_metrics_org_fkey foreign key (org_id) references organizations (id),
    -- each by itself: the check also sees the row that an upsert proposes, which holds additions only
    constraint group_metrics_counts_not_negative check (message_count >= 0 and reply_count >= 0 and dau >= 0 and join_count >= 0 and leave_count >= 0)
) with (fillfactor = 50);

comment on table group_metrics is 'A chat''s day in the organization''s timezone; no row for a day without events.';
comment on column group_metrics.message_count is 'Messages.';
comment on column group_metrics.reply_count is 'Messages that reply.';
comment on column group_metrics.dau is 'Distinct Telegram users who wrote.';
comment on column group_metrics.join_count is 'Distinct Telegram users who joined: Telegram reports one join in two updates.';
comment on column group_metrics.leave_count is 'Distinct Telegram users who left.';
comment on column group_metrics.reply_ratio is 'Replies per hundred messages, rounded half away from zero; 0 without messages.';
comment on column group_metrics.net_member_change is 'Joins minus leaves.';

create table group_daily_users (
    org_id     uuid   not null,
    tg_chat_id bigint not null,
    date       date   not null,
    event_type text   not null,
    tg_user_id bigint not null,
    constraint group_daily_users_pkey primary key (org_id, tg_chat_id, date, event_type, tg_user_id)
);

comment on table group_daily_users is
    'Who did what on which day: makes the distinct counts of group_metrics exact, since only a row that is really new here adds one there.';

create function rollcall_guard_organization() returns trigger language plpgsql as $$
begin
    -- waits for the transactions that write this organization; later ones find it gone
    perform pg_advisory_xact_lock(1919904876, rollcall_resolver_slot(old.id));
    if exists (select from activity_events where org_id = old.id) or exists (select from group_daily_users where org_id = old.id) then
        raise foreign_key_violation using
            message = format('organization %s still has activity', old.id),
            hint = 'delete its rows in activity_events and group_daily_users in the same transaction first';
    end if;
    return old;
end
$$;

create trigger organizations_guard_delete before delete on organizations
    for each row execute function rollcall_guard_organization();

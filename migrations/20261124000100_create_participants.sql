-- People and the groups that they are in: what the resolver finds or creates.

create table participants (
    org_id             uuid        not null,
    id                 uuid        not null default gen_random_uuid(),
    tg_user_id         bigint,
    merged_into        uuid,
    username           text,
    tg_first_name      text,
    tg_last_name       text,
    full_name          text,
    tg_full_name       text,
    source             text        not null default 'manual',
    participant_status text        not null default 'participant',
    first_seen_at      timestamptz,
    last_activity_at   timestamptz,
    profile_at         timestamptz,
    profile_update_id  bigint,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now(),
    constraint participants_pkey primary key (org_id, id),
    constraint participants_org_fkey foreign key (org_id) references organizations (id),
    constraint participants_merged_into_fkey foreign key (org_id, merged_into) references participants (org_id, id),
    constraint participants_not_merged_into_itself check (merged_into <> id),
    constraint participants_profile_version_whole check ((profile_at is null) = (profile_update_id is null))
) with (fillfactor = 80);

create unique index idx_participants_unique_tg_user_per_org on participants (org_id, tg_user_id)
    where tg_user_id is not null and merged_into is null;

-- the resolver's look for the survivor of somebody who was merged
create index participants_merged_tg_user on participants (org_id, tg_user_id, merged_into) where merged_into is not null;
-- the foreign key, and merging a survivor on
create index participants_merged_into on participants (org_id, merged_into) where merged_into is not null;

comment on table participants is 'A person in one organization.';
comment on column participants.tg_user_id is 'Telegram''s user id; null for people who came another way. Kept when merged.';
comment on column participants.merged_into is 'The survivor, which is never merged itself. Set by merge_participants only.';
comment on column participants.username is 'Of the newest fact, as the first and last name; null where Telegram sent none.';
comment on column participants.full_name is 'Follows the Telegram names until a person edits it, then it is left alone for good.';
comment on column participants.tg_full_name is 'What the worker last wrote into full_name; an edit shows as a difference between the two.';
comment on column participants.source is 'telegram_group where the worker created the row.';
comment on column participants.first_seen_at is 'Least date of all facts.';
comment on column participants.last_activity_at is 'Greatest time of messages and edits.';
comment on column participants.profile_at is 'Version of the Telegram names: only a greater (profile_at, profile_update_id) replaces them.';
comment on column participants.profile_update_id is 'Second half of the version.';

create table participant_groups (
    org_id          uuid        not null,
    participant_id  uuid        not null,
    tg_chat_id      bigint      not null,
    first_seen_at   timestamptz not null,
    last_joined_at  timestamptz,
    last_left_at    timestamptz,
    last_message_at timestamptz,
    is_active       boolean     not null generated always as
        (last_left_at is null or coalesce(greatest(last_joined_at, last_message_at) > last_left_at, false)) stored,
    constraint participant_groups_pkey primary key (org_id, participant_id, tg_chat_id),
    constraint participant_groups_participant_fkey foreign key (org_id, participant_id) references participants (org_id, id)
) with (fillfactor = 80);

comment on table participant_groups is 'Who was seen in which chat.';
comment on column participant_groups.first_seen_at is 'Least date of all facts.';
comment on column participant_groups.last_joined_at is 'Greatest date of joins.';
comment on column participant_groups.last_left_at is 'Greatest date of leaves.';
comment on column participant_groups.last_message_at is 'Greatest date of messages; an edit counts at its message''s date.';
comment on column participant_groups.is_active is 'Never left, or joined or wrote after that.';

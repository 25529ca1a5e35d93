-- What letters have in common, what became of each, and replays that can be interrupted.

alter table dead_letters
    add column first_received_at timestamptz not null default now(),
    add column kind text,
    add column path text,
    add column sqlstate text,
    add column constraint_name text,
    add column fingerprint text not null generated always as (left(md5(
        reason || '|' || coalesce(kind, '') || '|' || coalesce(path, '') || '|' || coalesce(sqlstate, '') || '|' || coalesce(constraint_name, '')), 8)) stored;
update dead_letters set first_received_at = received_at;

-- a group's letters, and all groups of a status
create index dead_letters_groups on dead_letters (status, fingerprint, id);
-- what retention takes
create index dead_letters_resolved on dead_letters (resolved_at) where resolved_at is not null;

comment on column dead_letters.first_received_at is 'When it first arrived.';
comment on column dead_letters.kind is 'message, edit, join or leave, where somebody could look.';
comment on column dead_letters.path is 'The member of the update that is wrong.';
comment on column dead_letters.sqlstate is 'What PostgreSQL said.';
comment on column dead_letters.constraint_name is 'The constraint that PostgreSQL named.';
comment on column dead_letters.fingerprint is 'The same for all letters with the same reason, kind, path, sqlstate and constraint.';

create table dead_letter_replays (
    id          bigint      not null generated always as identity,
    started_at  timestamptz not null default now(),
    started_by  text        not null,
    note        text        not null default '',
    finished_at timestamptz,
    constraint dead_letter_replays_pkey primary key (id)
);

comment on table dead_letter_replays is 'Replays by people; the set of letters is frozen at the start.';
comment on column dead_letter_replays.started_by is 'Who, as told.';
comment on column dead_letter_replays.finished_at is 'When every letter had an outcome; null: running, stopped or interrupted.';

create table dead_letter_replay_items (
    replay_id bigint not null,
    letter_id bigint not null,
    attempts  int    not null,
    state     text   not null default 'waiting',
    detail    text   not null default '',
    constraint dead_letter_replay_items_pkey primary key (replay_id, letter_id),
    constraint dead_letter_replay_items_replay_fkey foreign key (replay_id) references dead_letter_replays (id) on delete cascade,
    constraint dead_letter_replay_items_letter_fkey foreign key (letter_id) references dead_letters (id) on delete cascade,
    constraint dead_letter_replay_items_state_known check (state in
        ('waiting', 'published', 'applied', 'already_applied', 'ignored', 'refused', 'skipped'))
);

create index dead_letter_replay_items_letter on dead_letter_replay_items (letter_id);
create index dead_letter_replay_items_open on dead_letter_replay_items (replay_id, letter_id) where state in ('waiting', 'published');

comment on table dead_letter_replay_items is 'A letter of a replay. States go forward only: waiting, published, then an outcome; or waiting, skipped.';
comment on column dead_letter_replay_items.attempts is 'The letter''s attempts when the set was frozen: more means that it came back.';
comment on column dead_letter_replay_items.detail is 'Why it was refused or skipped.';

create function rollcall_guard_replay_item() returns trigger language plpgsql as $$
begin
    if not (old.state = 'waiting' or (old.state = 'published' and new.state not in ('waiting', 'skipped')) or old.state = new.state) then
        raise check_violation using message = format('a replayed letter goes forward only, not from %s to %s', old.state, new.state);
    end if;
    return new;
end
$$;

create trigger dead_letter_replay_items_forward before update of state on dead_letter_replay_items
    for each row execute function rollcall_guard_replay_item();

create table dead_letter_history (
    id        bigint      not null generated always as identity,
    letter_id bigint      not null,
    at        timestamptz not null default now(),
    what      text        not null,
    who       text        not null,
    replay_id bigint,
    detail    text        not null default '',
    constraint dead_letter_history_pkey primary key (id),
    constraint dead_letter_history_letter_fkey foreign key (letter_id) references dead_letters (id) on delete cascade,
    constraint dead_letter_history_replay_fkey foreign key (replay_id) references dead_letter_replays (id) on delete set null,
    constraint dead_letter_history_what_known check (what in
        ('arrived', 'published', 'applied', 'already_applied', 'ignored', 'refused', 'skipped', 'discarded', 'restored'))
);

create index dead_letter_history_letter on dead_letter_history (letter_id, id);
create index dead_letter_history_replay on dead_letter_history (replay_id) where replay_id is not null;

comment on table dead_letter_history is 'What became of a letter, when and by whom; arrivals beyond the hundredth are only counted in attempts.';
comment on column dead_letter_history.who is 'A person, or rollcall.';
comment on column dead_letter_history.detail is 'Reason and detail of an arrival, or a person''s note.';

create function rollcall_utc(at timestamptz) returns text language sql stable parallel safe
    return to_char(at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');

comment on function rollcall_utc is 'As RFC 3339, in UTC, to the second.';

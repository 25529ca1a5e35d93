-- What the rows of a load cost by themselves: plain inserts and updates, with nothing looked up, received or refused, by one
-- session. In an empty database of its own:
--
--     rollcall migrate && psql "$DATABASE_URL" -v orgs=10000 -v people=3 -f bench/rows.sql
--
-- With `-v copy=DIR`, an empty folder that the server may write to and the session too (pg_write_server_files, pg_read_server_files), rows that are
-- new come by COPY from binary files that are there before.
--
-- The events are those of orgs-100, orgs-10000 and, with 3 people in each, orgs-10000-few as far as rows go. Prints µs for an event, by
-- time and not CPU time.

\set ON_ERROR_STOP on
\if :{?orgs} \else \set orgs 100 \endif
\if :{?events} \else \set events 300000 \endif
\if :{?partitions} \else \set partitions 4 \endif
\if :{?people} \else \set people 'case when random() < 0.7 then 25 else 250 end' \endif
set jit = off;
set client_min_messages = warning;
create schema load;
set search_path = load, public;

create unlogged table org as select number, gen_random_uuid() as id from generate_series(0, :orgs - 1) number;
insert into organizations (id, name) select id, 'Organization ' || number from org;
insert into org_telegram_groups (org_id, tg_chat_id, status)
    select id, -1001000000000 - number * 1000 - chat, 'active' from org, generate_series(0, 2) chat;

-- 8 of 100 write nothing new; 1,900 events a transaction, of one partition
create unlogged table event as
    select e.*, org.id as org_id, 100000000 + org.number * 1000 + person as tg_user_id, -1001000000000 - org.number * 1000 - chat as tg_chat_id,
           :partitions * (row_number() over (partition by org.number % :partitions order by source_id) / 1900)
               + org.number % :partitions as transaction,
           timestamptz '2026-09-21 12:00' + source_id * (interval '1 hour' / :events) as at,
           rpad('', 40 + (source_id % 80)::int, 'release friday ') as text
    from (
        select source_id, floor(random() * :orgs)::int as number, floor(random() * 3)::int as chat,
               floor(random() * (:people))::bigint as person
        from generate_series(1, :events * 92 / 100) source_id
    ) e join org using (number);
create unlogged table person as
    select *, (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || substr(md5(tg_user_id::text), 13))::uuid as id
    from (select distinct on (org_id, tg_user_id) org_id, tg_user_id, transaction, at from event order by 1, 2, 3) p;
create unlogged table place as
    select distinct on (e.org_id, p.id, e.tg_chat_id) e.org_id, p.id, e.tg_chat_id, e.transaction, e.at
    from event e join person p using (org_id, tg_user_id) order by 1, 2, 3, 4;
create unlogged table deed as
    select e.transaction, e.org_id, tg_chat_id, source_id, tg_user_id, p.id, e.at, text from event e join person p using (org_id, tg_user_id);
create unlogged table day as
    select distinct on (org_id, tg_chat_id, at::date) org_id, tg_chat_id, at::date as date, transaction from event order by 1, 2, 3, 4;
create unlogged table known_person as
    select e.transaction, org_id, p.id, max(e.at) as at from event e join person p using (org_id, tg_user_id)
    where p.transaction < e.transaction group by 1, 2, 3;
create unlogged table known_place as
    select e.transaction, e.org_id, p.id, e.tg_chat_id, max(e.at) as at
    from event e join person p using (org_id, tg_user_id) join place l on l.org_id = e.org_id and l.id = p.id and l.tg_chat_id = e.tg_chat_id
    where l.transaction < e.transaction group by 1, 2, 3, 4;
create unlogged table known_day as
    select e.transaction, org_id, tg_chat_id, d.date, count(*)::int as messages from event e join day d using (org_id, tg_chat_id)
    where d.date = e.at::date and d.transaction < e.transaction group by 1, 2, 3, 4;
create unlogged table known_chat as
    select transaction, org_id, tg_chat_id, max(at) as at from event group by 1, 2, 3;
create index on person (transaction, org_id, tg_user_id);
create index on place (transaction, org_id, id, tg_chat_id);
create index on deed (transaction, org_id, tg_user_id, tg_chat_id, source_id);
create index on day (transaction, org_id, tg_chat_id, date);
create index on known_person (transaction, org_id, id);
create index on known_place (transaction, org_id, id, tg_chat_id);
create index on known_day (transaction, org_id, tg_chat_id, date);
create index on known_chat (transaction, org_id, tg_chat_id);
vacuum analyze;

-- Where the new rows of a transaction come from.
create unlogged table source (position int, what text, target text, columns text, rows text);
insert into source values
    (1, 'people who come', 'participants',
        'org_id, id, tg_user_id, username, tg_first_name, tg_last_name, full_name, tg_full_name, profile_at, profile_update_id, first_seen_at,
         last_activity_at, source',
        $$select org_id, id, tg_user_id, 'user_' || tg_user_id, 'Anna', 'Ivanov', 'Anna Ivanov', 'Anna Ivanov', at, 1::bigint, at, at, 'telegram_group'
          from person where transaction = %s order by org_id, tg_user_id$$),
    (2, 'places that are new', 'participant_groups', 'org_id, participant_id, tg_chat_id, first_seen_at, last_message_at',
        'select org_id, id, tg_chat_id, at, at from place where transaction = %s order by org_id, id, tg_chat_id'),
    (3, 'activity', 'activity_events',
        'org_id, tg_chat_id, event_type, source_id, tg_user_id, participant_id, occurred_at, has_media, message_text, chars_count, content_at,
         content_update_id',
        $$select org_id, tg_chat_id, 'message'::text, source_id::bigint, tg_user_id, id, at, false, text, 40, at, 0::bigint
          from deed where transaction = %s order by org_id, tg_user_id, tg_chat_id, source_id$$),
    (4, 'days that are new', 'group_metrics', 'org_id, tg_chat_id, date, message_count, dau',
        'select org_id, tg_chat_id, date, 1, 1 from day where transaction = %s order by org_id, tg_chat_id, date');

create unlogged table cost (what text, rows bigint, at timestamptz, until timestamptz);
-- With a folder, in which files are for COPY.
create procedure run(folder text) language plpgsql as $$
declare
    number bigint;
    written bigint;
    begun timestamptz;
    new source;
begin
    for number in select distinct transaction from event order by 1 loop
        for new in select * from source order by position loop
            begun := clock_timestamp();
            if folder is null then
                execute format('insert into %I (%s) ', new.target, new.columns) || format(new.rows, number);
            else
                execute format('copy %I (%s) from %L (format binary)', new.target, new.columns, format('%s/%s-%s', folder, new.target, number));
            end if;
            get diagnostics written = row_count;
            insert into cost values (new.what, written, begun, clock_timestamp());
        end loop;
        begun := clock_timestamp();
        update participants p set last_activity_at = greatest(p.last_activity_at, k.at)
            from known_person k where k.transaction = number and p.org_id = k.org_id and p.id = k.id;
        get diagnostics written = row_count;
        insert into cost values ('people who are known', written, begun, clock_timestamp());
        begun := clock_timestamp();
        update participant_groups g set last_message_at = greatest(g.last_message_at, k.at)
            from known_place k where k.transaction = number and g.org_id = k.org_id and g.participant_id = k.id and g.tg_chat_id = k.tg_chat_id;
        get diagnostics written = row_count;
        insert into cost values ('places that are known', written, begun, clock_timestamp());
        begun := clock_timestamp();
        update group_metrics m set message_count = m.message_count + k.messages
            from known_day k where k.transaction = number and m.org_id = k.org_id and m.tg_chat_id = k.tg_chat_id and m.date = k.date;
        get diagnostics written = row_count;
        insert into cost values ('days that are known', written, begun, clock_timestamp());
        begun := clock_timestamp();
        update org_telegram_groups g set last_event_at = greatest(g.last_event_at, k.at), updated_at = now()
            from known_chat k where k.transaction = number and g.org_id = k.org_id and g.tg_chat_id = k.tg_chat_id;
        get diagnostics written = row_count;
        insert into cost values ('chats', written, begun, clock_timestamp());
        begun := clock_timestamp();
        commit;
        insert into cost values ('commits', 1, begun, clock_timestamp());
    end loop;
end
$$;
\if :{?copy}
\o /dev/null
select format('copy (%s) to %L (format binary)', format(s.rows, e.transaction), format('%s/%s-%s', :'copy', s.target, e.transaction))
from source s, (select distinct transaction from event) e
\gexec
\o
\else
\set copy ''
\endif
set enable_hashjoin = off;
set enable_mergejoin = off;
checkpoint;
call run(nullif(:'copy', ''));
select coalesce(what, 'all') as what, round(sum(rows) filter (where what <> 'commits') / :events, 2) as "rows for an event",
       round((extract(epoch from sum(until - at)) * 1e6 / :events)::numeric, 1) as "µs for an event"
from cost group by rollup (what) order by 3;
drop schema load cascade;

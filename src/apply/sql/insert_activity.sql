-- Inserts what is new and returns what it adds to the daily figures, with the messages that were new. What
-- exists is left alone here: whoever misses a message revises it.
with fresh as (
    insert into activity_events (org_id, tg_chat_id, event_type, source_id, tg_user_id, participant_id, occurred_at, edited_at,
                                 message_thread_id, reply_to_message_id, media_type, message_text, chars_count, links_count,
                                 mentions_count, content_at, content_update_id)
    select n.org_id, n.tg_chat_id, n.event_type, n.source_id, n.tg_user_id, n.participant_id, to_timestamp(n.occurred_at),
           to_timestamp(n.edited_at), n.thread_id, n.reply_to, n.media_type, n.message_text, n.chars, n.links, n.mentions,
           to_timestamp(n.content_at), n.content_update_id
    from (
        select unnest($1::uuid[]) as org_id, unnest($2::bigint[]) as tg_chat_id, unnest($3::text[]) as event_type,
               unnest($4::bigint[]) as source_id, unnest($5::bigint[]) as tg_user_id, unnest($6::uuid[]) as participant_id,
               unnest($7::bigint[]) as occurred_at, unnest($8::bigint[]) as edited_at, unnest($9::bigint[]) as thread_id,
               unnest($10::bigint[]) as reply_to, unnest($11::text[]) as media_type, unnest($12::text[]) as message_text,
               unnest($13::int[]) as chars, unnest($14::int[]) as links, unnest($15::int[]) as mentions,
               unnest($16::bigint[]) as content_at, unnest($17::bigint[]) as content_update_id
    ) n
    on conflict (org_id, tg_chat_id, event_type, source_id, tg_user_id) do nothing
    returning org_id, tg_chat_id, event_type, source_id, tg_user_id, occurred_at, reply_to_message_id
),
dated as (
    select f.*, (f.occurred_at at time zone o.timezone)::date as date
    from fresh f join organizations o on o.id = f.org_id
),
newcomers as (
    insert into group_daily_users (org_id, tg_chat_id, date, event_type, tg_user_id)
    select distinct org_id, tg_chat_id, date, event_type, tg_user_id from dated order by 1, 2, 3, 4, 5
    on conflict do nothing
    returning org_id, tg_chat_id, date, event_type
)
select org_id, tg_chat_id, date - date 'epoch' as day, count(reply_to_message_id) as replies, 0::bigint as writers, 0::bigint as joined, 0::bigint as gone,
       coalesce(array_agg(source_id) filter (where event_type = 'message'), '{}') as messages,
       coalesce(array_agg(tg_user_id) filter (where event_type = 'message'), '{}') as authors
from dated group by 1, 2, 3
union all
select org_id, tg_chat_id, date - date 'epoch', 0, count(*) filter (where event_type = 'message'),
       count(*) filter (where event_type = 'join'), count(*) filter (where event_type = 'leave'), '{}', '{}'
from newcomers group by 1, 2, 3

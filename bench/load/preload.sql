-- 300 organizations of 3 chats and 250 people, who wrote one after the other.
insert into activity_events (org_id, tg_chat_id, event_type, source_id, tg_user_id, participant_id, occurred_at,
                             message_text, chars_count, content_at, content_update_id)
select md5('org ' || n % 300)::uuid, -1002000000000 - n % 300 * 1000 - n / 300 % 3, 'message', n, 100000000 + n % 300 * 1000 + n / 900 % 250,
       md5('participant ' || n % 300 || ' ' || n / 900 % 250)::uuid, timestamptz '2026-09-01' - n * interval '1 second',
       repeat('please check the logs ', (2 + n % 5)::int), (44 + n % 5 * 22)::int, timestamptz '2026-09-01' - n * interval '1 second', 0
from generate_series(1::bigint, $1) as n

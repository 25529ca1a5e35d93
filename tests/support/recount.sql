-- Days of chats whose figures are above, and below, a recount of their events.
with recount as (
    select a.org_id, a.tg_chat_id, (a.occurred_at at time zone o.timezone)::date as date,
           count(*) filter (where event_type = 'message') as messages,
           count(reply_to_message_id) as replies,
           count(distinct tg_user_id) filter (where event_type = 'message') as writers,
           count(distinct tg_user_id) filter (where event_type = 'join') as joined,
           count(distinct tg_user_id) filter (where event_type = 'leave') as gone
    from activity_events a join organizations o on o.id = a.org_id
    group by 1, 2, 3
)
select count(*) filter (where r.messages is null or coalesce(m.message_count, 0) > coalesce(r.messages, 0)
                           or coalesce(m.reply_count, 0) > coalesce(r.replies, 0)
                           or coalesce(m.dau, 0) > coalesce(r.writers, 0)
                           or coalesce(m.join_count, 0) > coalesce(r.joined, 0)
                           or coalesce(m.leave_count, 0) > coalesce(r.gone, 0)),
       count(*) filter (where m.message_count is null or coalesce(m.message_count, 0) < coalesce(r.messages, 0)
                           or coalesce(m.reply_count, 0) < coalesce(r.replies, 0)
                           or coalesce(m.dau, 0) < coalesce(r.writers, 0)
                           or coalesce(m.join_count, 0) < coalesce(r.joined, 0)
                           or coalesce(m.leave_count, 0) < coalesce(r.gone, 0))
from recount r full join group_metrics m using (org_id, tg_chat_id, date)

with recomputed as (
    select a.org_id, a.tg_chat_id, (a.occurred_at at time zone o.timezone)::date as date,
           count(*) filter (where event_type = 'message')::int as message_count,
           count(reply_to_message_id)::int as reply_count,
           count(distinct tg_user_id) filter (where event_type = 'message')::int as dau,
           count(distinct tg_user_id) filter (where event_type = 'join')::int as join_count,
           count(distinct tg_user_id) filter (where event_type = 'leave')::int as leave_count
    from activity_events a join organizations o on o.id = a.org_id
    group by 1, 2, 3
), kept as (
    select org_id, tg_chat_id, date, message_count, reply_count, dau, join_count, leave_count from group_metrics
)
select count(*) from ((table recomputed except table kept) union all (table kept except table recomputed)) as differing

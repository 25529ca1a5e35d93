-- Gives messages that exist what is newer, and returns on which days some became replies.
with known as (
    select a.org_id, a.tg_chat_id, a.event_type, a.source_id, a.tg_user_id, a.reply_to_message_id is null as was_no_reply,
           to_timestamp(n.edited_at) as edited_at, n.thread_id, n.reply_to, n.media_type, n.message_text, n.chars, n.links, n.mentions,
           to_timestamp(n.content_at) as content_at, n.content_update_id
    from (
        select unnest($1::uuid[]) as org_id, unnest($2::bigint[]) as tg_chat_id, unnest($3::text[]) as event_type,
               unnest($4::bigint[]) as source_id, unnest($5::bigint[]) as tg_user_id, unnest($6::bigint[]) as edited_at,
               unnest($7::bigint[]) as thread_id, unnest($8::bigint[]) as reply_to, unnest($9::text[]) as media_type,
               unnest($10::text[]) as message_text, unnest($11::int[]) as chars, unnest($12::int[]) as links,
               unnest($13::int[]) as mentions, unnest($14::bigint[]) as content_at, unnest($15::bigint[]) as content_update_id
    ) n
    join activity_events a
        on a.org_id = n.org_id and a.tg_chat_id = n.tg_chat_id and a.event_type = n.event_type
        and a.source_id = n.source_id and a.tg_user_id = n.tg_user_id
    where rollcall_is_newer(to_timestamp(n.content_at), n.content_update_id, a.content_at, a.content_update_id)
       or to_timestamp(n.edited_at) > coalesce(a.edited_at, '-infinity')
       or n.thread_id > coalesce(a.message_thread_id, 0)
       or n.reply_to > coalesce(a.reply_to_message_id, 0)
    for no key update of a
),
revised as (
    update activity_events a
    set media_type          = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then k.media_type else a.media_type end,
        message_text        = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then k.message_text else a.message_text end,
        chars_count         = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then k.chars else a.chars_count end,
        links_count         = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then k.links else a.links_count end,
        mentions_count      = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then k.mentions else a.mentions_count end,
        content_update_id   = case when rollcall_is_newer(k.content_at, k.content_update_id, a.content_at, a.content_update_id) then k.content_update_id else a.content_update_id end,
        content_at          = greatest(a.content_at, k.content_at),
        edited_at           = greatest(a.edited_at, k.edited_at),
        message_thread_id   = greatest(a.message_thread_id, k.thread_id),
        reply_to_message_id = greatest(a.reply_to_message_id, k.reply_to)
    from known k
    where a.org_id = k.org_id and a.tg_chat_id = k.tg_chat_id and a.event_type = k.event_type
      and a.source_id = k.source_id and a.tg_user_id = k.tg_user_id
    returning a.org_id, a.tg_chat_id, a.occurred_at, k.was_no_reply and a.reply_to_message_id is not null as became_reply
)
select r.org_id, r.tg_chat_id, (r.occurred_at at time zone o.timezone)::date - date 'epoch' as day, count(*) as replies
from revised r join organizations o on o.id = r.org_id
where r.became_reply
group by 1, 2, 3

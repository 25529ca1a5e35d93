-- Adds what really was new in this transaction; nothing else may ever count here.
insert into group_metrics as m (org_id, tg_chat_id, date, message_count, reply_count, dau, join_count, leave_count)
select n.org_id, n.tg_chat_id, date 'epoch' + n.day, n.messages, n.replies, n.writers, n.joined, n.gone
from unnest($1::uuid[], $2::bigint[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[]) with ordinality
    as n (org_id, tg_chat_id, day, messages, replies, writers, joined, gone, position)
order by n.position
on conflict (org_id, tg_chat_id, date) do update set
    message_count = m.message_count + excluded.message_count,
    reply_count   = m.reply_count + excluded.reply_count,
    dau           = m.dau + excluded.dau,
    join_count    = m.join_count + excluded.join_count,
    leave_count   = m.leave_count + excluded.leave_count

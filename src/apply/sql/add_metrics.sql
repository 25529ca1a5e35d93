-- Adds what really was new in this transaction; nothing else may ever count here.
insert into group_metrics as m (org_id, tg_chat_id, date, message_count, reply_count, dau, join_count, leave_count)
select n.org_id, n.tg_chat_id, date 'epoch' + n.day, n.messages, n.replies, n.writers, n.joined, n.gone
from (
    select unnest($1::uuid[]) as org_id, unnest($2::bigint[]) as tg_chat_id, unnest($3::int[]) as day,
           unnest($4::bigint[]) as messages, unnest($5::bigint[]) as replies, unnest($6::bigint[]) as writers,
           unnest($7::bigint[]) as joined, unnest($8::bigint[]) as gone
) n
on conflict (org_id, tg_chat_id, date) do update set
    message_count = m.message_count + excluded.message_count,
    reply_count   = m.reply_count + excluded.reply_count,
    dau           = m.dau + excluded.dau,
    join_count    = m.join_count + excluded.join_count,
    leave_count   = m.leave_count + excluded.leave_count

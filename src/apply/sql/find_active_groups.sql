select tg_chat_id, org_id from org_telegram_groups where tg_chat_id = any($1) and status = 'active'

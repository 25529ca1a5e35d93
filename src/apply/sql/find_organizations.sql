select id from organizations where id = any($1)

select relname::text, n_tup_ins, n_tup_upd, current_setting('track_counts')::boolean
from pg_stat_xact_user_tables
where relid in ('participants'::regclass, 'participant_groups'::regclass, 'activity_events'::regclass, 'group_metrics'::regclass,
                'org_telegram_groups'::regclass)

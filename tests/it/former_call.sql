call rollcall_apply(
    -- organization
    array[$1],
    -- activity
    array[1, 1, 1, 1], array[7, 7, 7, 8], array[-20, -10, -10, -10], array['message', 'message', 'message', 'message'],
    array[1, 2, 4, 3],
    array[null, null, null, null]::timestamptz[], array[null, null, null, null]::bigint[], array[null, null, null, 2]::bigint[],
    array['2026-01-01 12:00+00', '2026-01-01 12:00+00', '2026-01-02 12:00+00', '2026-01-01 12:00+00']::timestamptz[], array[0, 0, 0, 0],
    -- groups
    array[1, 1], array[-20, -10], array['2026-01-01 12:00+00', '2026-01-02 12:00+00']::timestamptz[], array[1, 4],
    array['2026-01-01 12:00+00', '2026-01-02 12:00+00']::timestamptz[],
    -- the rest of the activity
    array[1, 2, 2, 3],
    array['2026-01-01 12:00+00', '2026-01-01 12:00+00', '2026-01-02 12:00+00', '2026-01-01 12:00+00']::timestamptz[],
    array[null, null, null, null]::text[], array['a', 'b', 'c', 'd'], array[1, 1, 1, 1], array[0, 0, 0, 0], array[0, 0, 0, 0],
    -- the rest of the groups
    array['Twenty', 'Ten'], array['group', 'group'],
    -- people
    array[1, 1], array[7, 8], array[null, 'eight'], array['Seven', 'Eight'], array[null, null]::text[], array['Seven', 'Eight'],
    array['2026-01-02 12:00+00', '2026-01-01 12:00+00']::timestamptz[], array[4, 3],
    array['2026-01-01 12:00+00', '2026-01-01 12:00+00']::timestamptz[], array['2026-01-02 12:00+00', '2026-01-01 12:00+00']::timestamptz[],
    array[gen_random_uuid(), gen_random_uuid()],
    -- places
    array[1, 1, 1], array[1, 1, 2], array[-20, -10, -10], array['2026-01-01 12:00+00', '2026-01-01 12:00+00', '2026-01-01 12:00+00']::timestamptz[],
    array[null, null, null]::timestamptz[], array[null, null, null]::timestamptz[],
    array['2026-01-01 12:00+00', '2026-01-02 12:00+00', '2026-01-01 12:00+00']::timestamptz[], array[1, 4, 3],
    null, null, null, null)

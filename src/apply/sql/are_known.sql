select null::uuid[] as busy, null::uuid[] as unknown, null::boolean as met, null::int as claimed, null::boolean as others,
    rollcall_are_known($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) as known

-- Tries, so that a merge of people delays its own organization only.
select slot from unnest($1::int[]) as slot where pg_try_advisory_xact_lock_shared(1919904876, slot)

//! Times as `PostgreSQL` keeps them.

use sqlx::{
    Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, types::Oid},
};

use crate::decode::Seconds;

/// 2000-01-01, from which `PostgreSQL` counts.
const EPOCH: Seconds = 946_684_800;

/// A `timestamptz`, as Unix time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timestamp(pub(super) Seconds);

impl Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl PgHasArrayType for Timestamp {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1185))
    }
}

impl Encode<'_, Postgres> for Timestamp {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let microseconds = self.0.checked_sub(EPOCH).and_then(|seconds| seconds.checked_mul(1_000_000));
        Encode::<Postgres>::encode(microseconds.ok_or("a time that PostgreSQL does not know")?, buffer)
    }
}

//! `rollcall migrate`

use super::{CHECK, needs_database};
use crate::{
    database::{self, MIGRATOR},
    failure::{Failure, Remedy as _},
    settings::Settings,
};

pub(super) async fn run(settings: &Settings) -> Result<(), Failure> {
    needs_database(settings)?;
    let mut connection = database::connect_plainly(&settings.database).await.remedy(CHECK)?;
    MIGRATOR.run(&mut connection).await.remedy("see the database's log; a migration is applied whole or not at all")?;
    println!("the schema is up to date: {} migrations", MIGRATOR.iter().count());
    Ok(())
}

//! Consume: deliveries of every partition come in over one channel, and their acks go out over the same.

mod dead;
mod intake;
mod priority;

pub use dead::{DeadIntake, DeadLetter};
pub use intake::{Connected, Delivery, Intake, LongHeaders, lengthen};
pub use priority::priority;

//! Consume: deliveries of every partition come in over one channel, and their acks go out over the same.

mod intake;
mod priority;

pub use intake::{Connected, DeadIntake, DeadLetter, Delivery, Intake, LongHeaders, lengthen};
pub use priority::priority;

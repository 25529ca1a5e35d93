//! The instants of the worlds, seconds around midnights, and the days that they are in two timezones.

use rollcall::decode::Seconds;

/// 2025-09-27 00:00 UTC. At 14:00 of that day New Zealand changes to summer time.
const START: Seconds = 1_758_931_200;
const HOUR: Seconds = 3600;

/// Later than all instants, as the worker's clock.
pub const NOW: Seconds = START + 72 * HOUR;

/// What can be the date of something.
pub const INSTANTS: [Seconds; 10] = [
    START + 12 * HOUR - 1,
    START + 12 * HOUR,
    START + 12 * HOUR + 1,
    // midnight in New York, and in New Zealand, where this day had 23 hours
    START + 28 * HOUR - 1,
    START + 28 * HOUR,
    START + 35 * HOUR - 2,
    START + 35 * HOUR - 1,
    START + 35 * HOUR,
    START + 35 * HOUR + 1,
    START + 36 * HOUR,
];

/// A timezone: its name, and the midnights that matter with the days that begin there.
#[derive(Debug)]
pub struct Zone {
    pub name: &'static str,
    midnights: [(Seconds, &'static str); 3],
}

pub static ZONES: [Zone; 2] = [
    Zone {
        name: "Pacific/Auckland",
        midnights: [
            (START - 12 * HOUR, "2025-09-27"),
            (START + 12 * HOUR, "2025-09-28"),
            (START + 35 * HOUR, "2025-09-29"),
        ],
    },
    Zone {
        name: "America/New_York",
        midnights: [
            (START - 20 * HOUR, "2025-09-26"),
            (START + 4 * HOUR, "2025-09-27"),
            (START + 28 * HOUR, "2025-09-28"),
        ],
    },
];

impl Zone {
    pub fn day(&self, at: Seconds) -> &'static str {
        let (_, day) = self.midnights.iter().rfind(|(midnight, _)| *midnight <= at).expect("within the days known");
        day
    }
}

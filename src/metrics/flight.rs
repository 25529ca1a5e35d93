use prometheus::IntGauge;

/// How many deliveries are held.
#[derive(Debug, Clone)]
pub struct InFlight(IntGauge);

/// Stands for one that is held, until it is dropped.
#[derive(Debug)]
#[must_use = "what is dropped is no longer held"]
pub struct Held(IntGauge);

impl InFlight {
    pub(super) const fn new(gauge: IntGauge) -> Self {
        Self(gauge)
    }

    /// One more, as long as the returned value lives.
    pub fn hold(&self) -> Held {
        self.0.inc();
        Held(self.0.clone())
    }

    /// How many there are now.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.0.get()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

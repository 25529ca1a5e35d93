use std::{
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Protocol, Watcher, address::Address, trap::Traps};

/// What all connections of a proxy share.
pub struct Road {
    pub protocol: Protocol,
    pub traps: Traps,
    target: Mutex<String>,
    weather: Mutex<Weather>,
    is_blocked: watch::Sender<bool>,
    watcher: Mutex<Option<Arc<dyn Watcher>>>,
    crowd: Mutex<Arc<Crowd>>,
}

/// How well it goes.
#[derive(Debug, Default, Clone, Copy)]
pub struct Weather {
    pub latency: Duration,
    /// Bytes of a write.
    pub slice: Option<usize>,
}

/// The connections that the next cut will meet; each holds it as long as it is one.
#[derive(Default)]
pub struct Crowd {
    pub cut: CancellationToken,
}

impl Road {
    pub fn to(address: &Address<'_>) -> Self {
        Self {
            protocol: address.protocol,
            traps: Traps::default(),
            target: Mutex::new(address.server.clone()),
            weather: Mutex::default(),
            is_blocked: watch::Sender::new(false),
            watcher: Mutex::new(None),
            crowd: Mutex::default(),
        }
    }

    pub fn target(&self) -> String {
        self.target.lock().unwrap().clone()
    }

    pub fn set_target(&self, address: &Address<'_>) {
        assert_eq!(address.protocol, self.protocol);
        self.target.lock().unwrap().clone_from(&address.server);
    }

    pub fn weather(&self) -> Weather {
        *self.weather.lock().unwrap()
    }

    pub fn change_weather(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.weather.lock().unwrap());
    }

    pub fn block(&self, on: bool) {
        self.is_blocked.send_replace(on);
    }

    /// Waits until something may pass.
    pub async fn passable(&self) {
        if *self.is_blocked.borrow() {
            // Fails only when the sender is dropped, which lives as long as this.
            let _ = self.is_blocked.subscribe().wait_for(|is_blocked| !is_blocked).await;
        }
    }

    pub fn watch(&self, watcher: Arc<dyn Watcher>) {
        *self.watcher.lock().unwrap() = Some(watcher);
    }

    pub fn watcher(&self) -> Option<Arc<dyn Watcher>> {
        self.watcher.lock().unwrap().clone()
    }

    pub fn join(&self) -> Arc<Crowd> {
        Arc::clone(&self.crowd.lock().unwrap())
    }

    pub fn connections(&self) -> usize {
        // One is the road's own.
        Arc::strong_count(&self.crowd.lock().unwrap()) - 1
    }

    pub fn cut(&self) -> usize {
        let crowd = mem::take(&mut *self.crowd.lock().unwrap());
        // Before they know.
        let connections = Arc::strong_count(&crowd) - 1;
        crowd.cut.cancel();
        connections
    }
}

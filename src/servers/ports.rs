//! Ports to listen on.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};
use uuid::Uuid;

// Below the range from which Linux takes ports for outgoing connections by default (32768 and up): RabbitMQ binds its
// port seconds after it was chosen, and until then a connection that a busy machine opens could have taken it.
const LOWEST: u16 = 20_000;
const HIGHEST: u16 = 32_000;

/// Finds `N` different ports of 127.0.0.1 on which nothing listens.
pub(super) fn free<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = bind_anywhere()?;
        *port = listener.local_addr()?.port();
        // All stay bound until the last is found, so that no port comes twice.
        listeners.push(listener);
    }
    Ok(ports)
}

fn bind_anywhere() -> Result<TcpListener> {
    for _ in 0..100 {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        let random = u16::try_from((high ^ low) % u64::from(HIGHEST - LOWEST))?;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, LOWEST + random)) {
            return Ok(listener);
        }
    }
    bail!("found no free port of 127.0.0.1 between {LOWEST} and {HIGHEST}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn free_ports_differ() {
        let ports = super::free::<50>().expect("free ports");
        assert_eq!(HashSet::from(ports).len(), 50);
    }
}

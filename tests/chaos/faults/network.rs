//! Networks that are slow, silent or gone.

use std::time::{Duration, Instant};

use super::{Deed, Fault, TIMES, WHILE, fault, spring, sprung};
use crate::{
    scene::Scene,
    support::proxy::{Action, Point, Proxy},
};

#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// Every byte in a segment of its own.
    ByteByByte,
    /// 5 ms each way.
    Far,
    /// A connection that swallows everything from a point on.
    HalfOpen(Point),
    /// Nothing passes for a while.
    Silent(Way),
    /// Nobody listens for a while.
    Refused(Way),
    /// Three replicas, and connections cut anywhere.
    CutAnything,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    Database,
    Broker,
}

impl Way {
    const fn of(self, scene: &Scene) -> &Proxy {
        match self {
            Self::Database => &scene.database,
            Self::Broker => &scene.broker,
        }
    }
}

pub(super) fn all() -> Vec<Fault> {
    let named = |name, act| fault(name, super::Act::Network(act));
    vec![
        named("network: byte by byte", Act::ByteByByte),
        named("network: 5 ms each way", Act::Far),
        Fault { replicas: 4, ..named("network: 5 ms each way, four replicas", Act::Far) },
        named("database: half-open at COMMIT's answer", Act::HalfOpen(Point::Committed)),
        named("database: half-open at COMMIT", Act::HalfOpen(Point::Commit)),
        named("broker: half-open at a delivery", Act::HalfOpen(Point::Deliver)),
        named("broker: half-open at an ack", Act::HalfOpen(Point::Ack)),
        named("broker: half-open at a dead letter", Act::HalfOpen(Point::Publish)),
        named("database: silent for a while", Act::Silent(Way::Database)),
        named("broker: silent for a while", Act::Silent(Way::Broker)),
        named("database: refuses connections for a while", Act::Refused(Way::Database)),
        named("broker: refuses connections for a while", Act::Refused(Way::Broker)),
        Fault { replicas: 3, ..named("any connection of three replicas: cut at any time", Act::CutAnything) },
    ]
}

impl Act {
    pub(super) async fn happen(self, scene: &mut Scene) -> Result<(), String> {
        match self {
            Self::ByteByByte => {
                scene.wanted = 1;
                scene.reached = 1;
                scene.database.slice(Some(1));
                scene.broker.slice(Some(1));
                Ok(())
            }
            Self::Far => {
                scene.wanted = 1;
                scene.reached = 1;
                scene.database.delay(Duration::from_millis(5));
                scene.broker.delay(Duration::from_millis(5));
                Ok(())
            }
            Self::HalfOpen(point) => half_open(scene, point).await,
            Self::Silent(way) => {
                let silence = async |scene: &mut Scene| {
                    way.of(scene).swallow(true);
                    tokio::time::sleep(WHILE).await;
                    way.of(scene).swallow(false);
                    Ok(())
                };
                scene.strike(1, silence).await
            }
            Self::Refused(way) => {
                let refuse = async |scene: &mut Scene| {
                    way.of(scene).close().await;
                    tokio::time::sleep(WHILE).await;
                    way.of(scene).open().await;
                    Ok(())
                };
                scene.strike(1, refuse).await
            }
            Self::CutAnything => {
                for deed in [Deed::Cut, Deed::Reset] {
                    for point in [Point::Deliver, Point::Commit, Point::Publish] {
                        spring(scene, point, deed).await?;
                    }
                }
                scene.wanted = 6 * TIMES;
                Ok(())
            }
        }
    }
}

async fn half_open(scene: &mut Scene, point: Point) -> Result<(), String> {
    scene.wanted = 1;
    scene.progress().await?;
    let trap = super::proxy(scene, point).arm(point, 1, Action::Swallow);
    if sprung(scene, &trap).await {
        scene.recovered(Instant::now()).await?;
    }
    Ok(())
}

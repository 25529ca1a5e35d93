//! Bare updates name no organization: each goes to all that have its chat.

use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    session::Outlet,
    ticket::{Decoded, Share},
};
use crate::{apply::Lane, decode::Refusal, retry::Backoff, settle::Refused};

/// Chats that are looked up at once.
const WINDOW: usize = 500;

/// The writers' inboxes; an organization always has the same one.
#[derive(Clone)]
pub(super) struct Writers(pub(super) Vec<mpsc::Sender<(Uuid, Share)>>);

impl Writers {
    pub(super) async fn send(&self, org: Uuid, share: Share) {
        let writer = writer_of(org, self.0.len());
        // A writer that is gone has given up the session, and with it this share.
        let _ = self.0[writer].send((org, share)).await;
    }
}

/// The writer that an organization always meets.
#[must_use]
pub const fn writer_of(org: Uuid, writers: usize) -> usize {
    let hash = org.as_u128() ^ (org.as_u128() >> 64);
    (hash % writers as u128) as usize
}

/// Routes until the inbox is closed and empty.
pub(super) async fn route(
    mut inbox: mpsc::Receiver<Decoded>,
    mut lane: Lane,
    writers: Writers,
    outlet: Outlet,
    mut backoff: Backoff,
) {
    let mut waiting = Vec::new();
    while inbox.recv_many(&mut waiting, WINDOW).await > 0 {
        let chats: Vec<_> = waiting.iter().map(|decoded| decoded.event.chat_id()).collect();
        let orgs = loop {
            match lane.route(&chats).await {
                Ok(orgs) => {
                    outlet.status.database_works();
                    break orgs;
                }
                Err(fault) => {
                    let wait = backoff.next_wait();
                    outlet.status.database_fails(&fault, wait);
                    if outlet.wait(wait).await.is_none() {
                        return;
                    }
                }
            }
        };
        for decoded in waiting.drain(..) {
            let chat = decoded.event.chat_id();
            let Some(orgs) = orgs.get(&chat) else {
                let Decoded { event, letter, mut receipt, .. } = decoded;
                receipt.kind = event.kind();
                let refusal = Refusal::unmapped_chat(chat);
                outlet.refuse(Refused { letter, refusal, receipt }).await;
                continue;
            };
            for (share, org) in Share::split(decoded, orgs.len()).into_iter().zip(orgs) {
                writers.send(*org, share).await;
            }
        }
    }
}

//! Bare updates name no organization: each goes to all that have its chat.

use tokio::sync::mpsc;

use super::{
    queue::Entry,
    session::Outlet,
    ticket::{Decoded, Share},
};
use crate::{apply::Lane, decode::Refusal, retry::Backoff, settle::Refused};

/// Chats that are looked up at once.
const WINDOW: usize = 500;

/// Routes until the inbox is closed and empty.
pub(super) async fn route(
    mut inbox: mpsc::Receiver<Decoded>,
    mut lane: Lane,
    entry: Entry,
    outlet: Outlet,
    mut backoff: Backoff,
) {
    let mut waiting = Vec::new();
    while inbox.recv_many(&mut waiting, WINDOW).await > 0 {
        let chats: Vec<_> = waiting.iter().map(|decoded| decoded.opened.event().chat_id()).collect();
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
            let chat = decoded.opened.event().chat_id();
            let Some(orgs) = orgs.get(&chat) else {
                let Decoded { opened, receipt, .. } = decoded;
                let refusal = Refusal::unmapped_chat(chat);
                outlet.refuse(Refused { letter: opened.into_owner(), refusal, receipt }).await;
                continue;
            };
            for (share, org) in Share::split(decoded, orgs.len()).zip(orgs) {
                entry.send(*org, share).await;
            }
        }
    }
}

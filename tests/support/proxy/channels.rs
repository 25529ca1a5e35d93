use std::{collections::BTreeMap, collections::HashMap, mem};

use super::{Delivered, Published};

/// What is under way on the channels of a connection. Each direction enters what it carries before it is forwarded,
/// so it is here when the answer comes.
#[derive(Default)]
pub struct Channels(HashMap<u16, Channel>);

#[derive(Default)]
struct Channel {
    /// By delivery tag.
    unacked: BTreeMap<u64, Delivered>,
    /// Messages published since confirms were asked for.
    published: Option<u64>,
    /// By the number that the confirm will have; with whether it is mandatory.
    unconfirmed: BTreeMap<u64, (Published, bool)>,
}

impl Channels {
    /// A channel begins, and what was before it under the same number is over.
    pub fn open(&mut self, channel: u16) {
        self.0.remove(&channel);
    }

    pub fn deliver(&mut self, channel: u16, tag: u64, delivered: Delivered) {
        self.channel(channel).unacked.insert(tag, delivered);
    }

    /// Takes out what the client settles.
    pub fn settle(&mut self, channel: u16, tag: u64, is_multiple: bool) -> Vec<Delivered> {
        take(&mut self.channel(channel).unacked, tag, is_multiple)
    }

    /// Everything unacked will be delivered again.
    pub fn recover(&mut self, channel: u16) {
        self.channel(channel).unacked.clear();
    }

    pub fn select_confirms(&mut self, channel: u16) {
        self.channel(channel).published.get_or_insert(0);
    }

    /// Counts a message, and returns the number that its confirm will have.
    pub fn count(&mut self, channel: u16) -> Option<u64> {
        let published = self.channel(channel).published.as_mut()?;
        *published += 1;
        Some(*published)
    }

    pub fn publish(&mut self, channel: u16, number: u64, published: Published, is_mandatory: bool) {
        self.channel(channel).unconfirmed.insert(number, (published, is_mandatory));
    }

    /// Forgets a message that no queue took. A return has no number, but what is published twice the same way is
    /// returned twice.
    pub fn give_back(&mut self, channel: u16, returned: &Published) {
        let unconfirmed = &mut self.channel(channel).unconfirmed;
        let is_it = |(published, is_mandatory): &(Published, bool)| *is_mandatory && published == returned;
        let number = unconfirmed.iter().find(|(_, sent)| is_it(sent)).map(|(number, _)| *number);
        number.and_then(|number| unconfirmed.remove(&number));
    }

    /// Takes out what the broker is done with.
    pub fn confirm(&mut self, channel: u16, number: u64, is_multiple: bool) -> Vec<Published> {
        let confirmed = take(&mut self.channel(channel).unconfirmed, number, is_multiple);
        confirmed.into_iter().map(|(published, _)| published).collect()
    }

    fn channel(&mut self, channel: u16) -> &mut Channel {
        self.0.entry(channel).or_default()
    }
}

/// Takes out one, or all up to it; zero stands for the last.
fn take<T>(from: &mut BTreeMap<u64, T>, number: u64, is_multiple: bool) -> Vec<T> {
    if !is_multiple {
        return from.remove(&number).into_iter().collect();
    }
    let rest = if number == 0 { BTreeMap::new() } else { from.split_off(&(number + 1)) };
    mem::replace(from, rest).into_values().collect()
}

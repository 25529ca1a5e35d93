//! Three lanes write the same rows at once, again and again: no error, and the rows of the model.

use std::cmp::Reverse;

use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};
use rollcall::{apply::Lane, decode::Event};

use super::{
    model::expected,
    rows::read,
    runner::{apply_all, create_orgs, decoded_all, facts, ids},
    world::{Size, World, worlds},
};
use crate::support::Place;

/// Batches of updates.
type Batches = Vec<Vec<usize>>;

/// Lets the lanes apply their shares, round by round, all three at once.
async fn race(users: i64, rounds: impl FnOnce(&World, &[Event<'_>]) -> Vec<[Batches; 3]>) {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let orgs = create_orgs(&mut connection).await;
    // always the same world: what differs from run to run is who comes first
    let size = Size { users, messages: 80, updates: 1200..=1200 };
    let world = worlds(size).new_tree(&mut TestRunner::deterministic()).unwrap().current();
    let events = decoded_all(&world, orgs, true);
    let [mut one, mut two, mut three] = [(); 3].map(|()| Lane::new(place.settings.database.clone()));
    for (round, shares) in rounds(&world, &events).iter().enumerate() {
        let (one, two, three) = tokio::join!(
            apply_all(&mut one, &shares[0], &events),
            apply_all(&mut two, &shares[1], &events),
            apply_all(&mut three, &shares[2], &events),
        );
        one.and(two).and(three).unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
    let rows = read(&mut connection, &ids(orgs)).await;
    rows.ensure_are(expected(&orgs, &[], &facts(&events))).unwrap_or_else(|error| panic!("{error}"));
    place.assert_metrics_recompute().await;
}

/// The updates of every round and the one before.
fn windows(updates: &[usize], rounds: usize) -> impl Iterator<Item = &[usize]> {
    let size = updates.len().div_ceil(rounds);
    (0..rounds).map(move |round| &updates[round.saturating_sub(1) * size..updates.len().min((round + 1) * size)])
}

/// All but every fourth, another fourth for every lane, so that each is in two shares at least.
fn is_shared(index: usize, lane: usize) -> bool {
    index % 4 != lane
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_lanes_over_the_same_forty_users_never_fail() {
    race(40, |world, events| {
        let share = |window: &[usize], lane| {
            let mut batches = world.batches(lane);
            for batch in &mut batches {
                batch.retain(|&index| window.contains(&index) && is_shared(index, lane));
            }
            batches
        };
        let updates: Vec<_> = (0..events.len()).collect();
        windows(&updates, 30).map(|window| [0, 1, 2].map(|lane| share(window, lane))).collect()
    })
    .await;
}

/// Few people, from the newest to the oldest, in large batches: little is news of the people, whose rows
/// would let the lanes in one by one, and so they meet in the activity.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_lanes_that_catch_up_with_the_past_never_fail() {
    race(4, |_, events| {
        let mut updates: Vec<_> = (0..events.len()).collect();
        updates.sort_by_key(|&index| Reverse(events[index].facts[0].date));
        let share =
            |window: &[usize], lane| vec![window.iter().copied().filter(|&index| is_shared(index, lane)).collect()];
        windows(&updates, 40).map(|window| [0, 1, 2].map(|lane| share(window, lane))).collect()
    })
    .await;
}

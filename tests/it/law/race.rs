//! Three lanes write the same rows at once, again and again: no error, and the rows of the model.

use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};
use rollcall::apply::Lane;

use super::{
    model::expected,
    rows::read,
    runner::{apply_all, create_orgs, decoded_all, facts, ids},
    world::{Size, World, worlds},
};
use crate::support::Place;

const ROUNDS: usize = 30;
const UPDATES: usize = 40 * ROUNDS;
const CROWD: Size = Size { users: 40, messages: 80, updates: UPDATES..=UPDATES };

/// What a lane applies in a round: the updates of this round and the last but every fourth, another
/// fourth for every lane, in an order and a split of its own.
fn share(world: &World, round: usize, lane: usize) -> Vec<Vec<usize>> {
    let per_round = world.updates.len().div_ceil(ROUNDS);
    let window = round.saturating_sub(1) * per_round..(round + 1) * per_round;
    let mut batches = world.batches(lane);
    for batch in &mut batches {
        batch.retain(|index| window.contains(index) && index % 4 != lane);
    }
    batches.retain(|batch| !batch.is_empty());
    batches
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_lanes_over_the_same_forty_users_never_fail() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let orgs = create_orgs(&mut connection).await;
    let world = worlds(CROWD).new_tree(&mut TestRunner::default()).unwrap().current();
    let events = decoded_all(&world, orgs, true);
    let mut lanes = [(); 3].map(|()| Lane::new(place.settings.database.clone()));
    for round in 0..ROUNDS {
        let [one, two, three] = &mut lanes;
        let [of_one, of_two, of_three] = [0, 1, 2].map(|lane| share(&world, round, lane));
        let applied = tokio::join!(
            apply_all(one, &of_one, &events),
            apply_all(two, &of_two, &events),
            apply_all(three, &of_three, &events),
        );
        applied.0.and(applied.1).and(applied.2).unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
    let rows = read(&mut connection, &ids(orgs)).await;
    rows.ensure_are(expected(&orgs, &[], &facts(&events))).unwrap();
    place.assert_metrics_recompute().await;
}

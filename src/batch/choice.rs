//! Which partitions give to a transaction, and which ones are worth the next.

use std::cmp::Reverse;

use super::partition::Partition;

/// Partitions that a writer asks for at a time.
const MOST_WANTED: usize = 16;

/// Those without an open transaction first, and of these the fullest.
pub(super) fn fullest_first<E>(partitions: &[Partition<E>]) -> Vec<usize> {
    let mut order: Vec<_> = (0..partitions.len()).collect();
    order.sort_by_key(|number| {
        let partition = &partitions[*number];
        // None is passed over for ever.
        (partition.open, partition.passed < partitions.len(), Reverse(partition.waiting()))
    });
    order
}

/// The one that is claimed, and those that were passed over for long, since others had claimed them.
pub(super) fn claimed_first<E>(partitions: &[Partition<E>], claimed: usize) -> Vec<usize> {
    let is_passed = |number: &usize| *number != claimed && partitions[*number].passed >= 2 * partitions.len();
    [claimed].into_iter().chain((0..partitions.len()).filter(is_passed)).collect()
}

/// Those for the transaction after one of so many events, which are `leaving` these partitions and are followed by as many: the fullest
/// first, where less than a `step` makes no difference, and of equally full ones what was passed over longest.
pub(super) fn wanted<E>(partitions: &[Partition<E>], leaving: &[usize], events: usize, step: usize) -> Vec<usize> {
    let step = step.max(1);
    let expected = |number: &usize| {
        let waiting = partitions[*number].waiting();
        if leaving.contains(number) { waiting.max(events) } else { waiting }
    };
    let mut wanted: Vec<_> = (0..partitions.len()).filter(|number| expected(number) > 0).collect();
    wanted.sort_by_key(|number| Reverse(((expected(number) + step / 2) / step, partitions[*number].passed)));
    wanted.truncate(MOST_WANTED);
    wanted
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    /// Partitions with so many events, passed over so often.
    fn partitions<const N: usize>(waiting: [(usize, usize); N]) -> Vec<Partition<()>> {
        let partition = |(number, (events, passed))| {
            let mut partition = Partition::new(number);
            (0..events).for_each(|_| partition.push(Uuid::nil(), (), 0));
            partition.passed = passed;
            partition
        };
        waiting.into_iter().enumerate().map(partition).collect()
    }

    #[test]
    fn what_was_passed_over_for_long_leaves_with_what_is_claimed() {
        let partitions = partitions([(9, 5), (1, 6), (9, 0), (0, 7), (3, 100)]);
        assert_eq!(claimed_first(&partitions[..3], 2), [2, 1]);
        assert_eq!(claimed_first(&partitions[..3], 1), [1]);
        assert_eq!(claimed_first(&partitions, 0), [0, 4], "of more partitions each is passed over more often");
    }

    #[test]
    fn the_fullest_are_wanted_and_of_equals_what_was_passed_over() {
        let partitions = partitions([(95, 1), (100, 2), (0, 0), (40, 9), (0, 5)]);
        assert_eq!(wanted(&partitions, &[2], 100, 50), [1, 0, 2, 3], "2 leaves and fills again, 4 is empty");
        assert_eq!(wanted(&partitions, &[3], 10, 50), [1, 0, 3]);
        assert_eq!(wanted(&partitions, &[], 0, 1), [1, 0, 3], "each event counts");
        assert_eq!(wanted(&partitions, &[], 0, 0), [1, 0, 3]);
    }
}

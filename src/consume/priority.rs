//! Which replica a partition prefers, without replicas knowing of each other.

/// Consumer priorities that fit every version's integer type.
const PRIORITIES: u64 = 1_000_000;

/// The priority of a replica's consumer on a partition, by rendezvous hashing: the replica with the
/// highest one is the partition's preferred replica, and when it leaves only its partitions move.
#[must_use]
pub fn priority(replica: &str, partition: usize) -> i32 {
    // FNV-1a with a final mix: must be the same in every process and release, unlike std's hasher.
    let bytes = replica.bytes().chain([0]).chain((partition as u64).to_le_bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (hash ^ (hash >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    i32::try_from((mixed >> 20) % PRIORITIES).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preferred<'a>(replicas: &[&'a str], partition: usize) -> &'a str {
        replicas.iter().copied().max_by_key(|replica| priority(replica, partition)).unwrap()
    }

    #[test]
    fn partitions_spread_over_replicas() {
        let replicas = ["a-1", "a-2", "a-3", "a-4"];
        for replica in replicas {
            let preferring = (0..400).filter(|&partition| preferred(&replicas, partition) == replica).count();
            assert!((60..=140).contains(&preferring), "{replica}: {preferring}");
        }
    }

    #[test]
    fn only_the_partitions_of_a_lost_replica_move() {
        let all = ["a-1", "a-2", "a-3"];
        for partition in 0..100 {
            let before = preferred(&all, partition);
            if before != "a-3" {
                assert_eq!(preferred(&all[..2], partition), before);
            }
        }
    }

    #[test]
    fn priorities_are_stable_across_releases() {
        assert_eq!(priority("a-1", 0), 495_008);
    }
}

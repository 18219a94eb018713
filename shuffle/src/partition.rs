//! Which partition a row goes to.

/// Replaces `out` by the partition of each row, given the rows' hashes.
///
/// The *high* bits of a remixed hash decide (Lemire's multiply-shift), so that hash tables over the same hashes, which
/// use the low bits, stay evenly filled within a partition.
///
/// # Panics
/// When `partitions` is zero.
pub fn hash_assignment(hashes: &[u64], partitions: u32, out: &mut Vec<u32>) {
    assert!(partitions > 0, "an exchange has at least one partition");
    out.clear();
    let scale = u64::from(partitions);
    out.extend(hashes.iter().map(|hash| {
        let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        ((mixed * scale) >> 32) as u32
    }));
}

/// Replaces `out` by which of `parts` equal parts of its partition each row belongs to, given the rows' hashes: partition `p` of
/// `partitions` is made of partitions `p * parts ..` of `partitions * parts`, from the first to the last of them.
///
/// # Panics
/// When there are none, or more than 32 bits can count.
pub fn part_assignment(hashes: &[u64], partitions: u32, parts: u32, out: &mut Vec<u32>) {
    let finer = partitions.checked_mul(parts).expect("parts of partitions are counted in 32 bits");
    hash_assignment(hashes, finer, out);
    out.iter_mut().for_each(|assigned| *assigned %= parts);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Lanes that read a partition in parts agree with the one that wrote it on which rows are in it.
        #[test]
        fn parts_of_a_partition_are_partitions_of_a_finer_division(
            hashes in vec(any::<u64>(), 0..200),
            partitions in 1_u32..5000,
            parts in 1_u32..300,
        ) {
            let (mut coarse, mut part, mut fine) = (Vec::new(), Vec::new(), Vec::new());
            hash_assignment(&hashes, partitions, &mut coarse);
            part_assignment(&hashes, partitions, parts, &mut part);
            hash_assignment(&hashes, partitions * parts, &mut fine);
            let composed: Vec<_> = coarse.iter().zip(&part).map(|(coarse, part)| coarse * parts + part).collect();
            prop_assert_eq!(composed, fine);
        }
    }

    #[test]
    fn parts_of_a_partition_are_even() {
        let hashes: Vec<u64> = (0..100_000).collect();
        let (mut partition, mut part) = (Vec::new(), Vec::new());
        hash_assignment(&hashes, 10, &mut partition);
        part_assignment(&hashes, 10, 8, &mut part);
        for wanted in 0..8 {
            let rows = partition.iter().zip(&part).filter(|(p, part)| **p == 3 && **part == wanted).count();
            assert!((1150..1350).contains(&rows), "{rows} of about 10,000 in part {wanted}");
        }
    }

    #[test]
    fn hashes_spread_evenly_over_any_number_of_partitions() {
        // Consecutive numbers stand for a poor hash; the remix must cope.
        let hashes: Vec<u64> = (0..100_000).collect();
        for partitions in [1, 2, 3, 7, 64, 1000] {
            let mut out = vec![9; 3];
            hash_assignment(&hashes, partitions, &mut out);
            let mut counts = vec![0_u32; partitions as usize];
            out.iter().for_each(|&partition| counts[partition as usize] += 1);
            let fair = 100_000 / partitions;
            assert!(counts.iter().all(|&n| n >= fair / 2 && n <= fair * 2), "{partitions}: {counts:?}");
        }
    }

    /// Executors of different builds write and read one exchange: the same hash must mean the same partition in all of them,
    /// whatever the processor.
    #[test]
    fn a_hash_means_the_same_partition_in_every_build() {
        let hashes = [0, 1, 2, u64::MAX, 1 << 63, 0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210, 1_000_003];
        let expected: [(u32, [u32; 8]); 5] = [
            (2, [0, 1, 0, 0, 1, 0, 0, 1]),
            (7, [0, 4, 1, 2, 3, 0, 2, 5]),
            (200, [0, 123, 47, 76, 100, 9, 66, 168]),
            (4096, [0, 2531, 966, 1564, 2048, 201, 1363, 3452]),
            (1_000_000, [0, 618033, 236067, 381966, 500000, 49128, 332837, 842851]),
        ];
        for (partitions, expected) in expected {
            let mut out = Vec::new();
            hash_assignment(&hashes, partitions, &mut out);
            assert_eq!(out, expected, "{partitions} partitions");
        }
    }
}

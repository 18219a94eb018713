//! Plans that are not what was encoded: changes of good ones from fixed seeds. Each is decoded or refused, and nothing panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

use firesteel_engine::codec::{decode_in, encode};

use crate::lab::Lab;

#[path = "../../../fuzz/src/change.rs"]
#[allow(dead_code)] // each test program uses its part
mod change;

use change::{Numbers, change_bytes};

/// Changes of each plan, some below the packing and some of the packed bytes.
const CHANGES: u64 = 400;
/// Bytes before the packed plan: how many it has unpacked.
const SIZE_BYTES: usize = 8;

const QUERIES: [&str; 3] = [
    "select value % 7 as k, count(*) as c, sum(value) as s from generate_series(1, 1000) group by k order by k",
    "select a.value, b.value + 1 from generate_series(1, 100) a join generate_series(50, 150) b on a.value = b.value \
     where a.value between 60 and 90 and cast(b.value as varchar) like '%7'",
    "select value, row_number() over (partition by value % 3 order by value desc) from generate_series(1, 50) limit 9",
];

#[tokio::test]
async fn plans_that_were_changed_are_decoded_or_refused() {
    let lab = Lab::cluster(2, 1);
    let context = lab.session.context().task_ctx();
    let (mut accepted, mut plans) = (0, 0);
    for query in QUERIES {
        lab.batches(query).await.unwrap();
        let job = lab.runner.last.lock().clone().unwrap();
        for encoded in job.graph.stages.iter().filter_map(|stage| stage.encoded.clone()) {
            plans += 1;
            for seed in 0..CHANGES {
                let changed = changed(&encoded, seed);
                let decoded = catch_unwind(AssertUnwindSafe(|| decode_in(&changed, &context)));
                let decoded = decoded.unwrap_or_else(|_| panic!("{query}, change {seed} panics"));
                match decoded {
                    Ok(stage) => {
                        // What was taken for a plan can be shown, and be said or refused.
                        assert!(!stage.to_string().is_empty());
                        let _ = encode(&stage);
                        accepted += 1;
                    }
                    Err(error) => assert!(!error.message.is_empty()),
                }
            }
        }
    }
    assert!(plans >= 4, "{plans} plans travelled");
    assert!(accepted > 0, "nothing that is behind a refusal was looked at");
}

/// A change of an encoded plan, the same for the same seed.
fn changed(encoded: &[u8], seed: u64) -> Vec<u8> {
    let n = &mut Numbers::new(seed);
    if n.below(8) == 0 {
        let mut changed = encoded.to_vec();
        change_bytes(&mut changed, n);
        return changed;
    }
    let mut plan = zstd::decode_all(&encoded[SIZE_BYTES..]).unwrap();
    for _ in 0..=n.below(3) {
        change_bytes(&mut plan, n);
    }
    let packed = zstd::bulk::compress(&plan, 1).unwrap();
    [&(plan.len() as u64).to_le_bytes()[..], &packed].concat()
}

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::{JoinType, NullEquality};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_expr::expressions::col;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::prelude::{SessionConfig, SessionContext};
use firesteel_base::{ByteSize, MemoryBudget};
use futures::TryStreamExt;
use proptest::prelude::*;

use super::spill_joins;
use crate::memory::GrantPool;

const TYPES: [JoinType; 10] = [
    JoinType::Inner,
    JoinType::Left,
    JoinType::Right,
    JoinType::Full,
    JoinType::LeftSemi,
    JoinType::RightSemi,
    JoinType::LeftAnti,
    JoinType::RightAnti,
    JoinType::LeftMark,
    JoinType::RightMark,
];

/// A side of the join: `rows` rows of which some have no key, in batches of 100.
fn side(rows: usize, keys: i64, salt: i64) -> Vec<RecordBatch> {
    let numbers: Vec<_> = (0..rows as i64).collect();
    let batches = numbers.chunks(100).map(|numbers| {
        let key = |n: &i64| (n % 17 != 0).then_some((n * 7919 + salt) % keys);
        let text = |n: &i64| format!("row {n} of the side with the salt {salt}, and something more to hold");
        let key: ArrayRef = Arc::new(numbers.iter().map(key).collect::<Int64Array>());
        let text: ArrayRef = Arc::new(numbers.iter().map(text).map(Some).collect::<StringViewArray>());
        RecordBatch::try_from_iter_with_nullable([("key", key, true), ("text", text, true)]).unwrap()
    });
    batches.collect()
}

fn bytes(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| batch.get_array_memory_size() as u64).sum()
}

fn join(
    build: &[RecordBatch],
    probe: &[RecordBatch],
    join_type: JoinType,
    nulls: NullEquality,
) -> Arc<dyn ExecutionPlan> {
    let scan = |side: &[RecordBatch]| {
        MemorySourceConfig::try_new_exec(&[side.to_vec()], side[0].schema(), None).unwrap()
            as Arc<dyn ExecutionPlan>
    };
    let (build, probe) = (scan(build), scan(probe));
    let on = vec![(col("key", &build.schema()).unwrap(), col("key", &probe.schema()).unwrap())];
    let mode = PartitionMode::Partitioned;
    let join = HashJoinExec::try_new(build, probe, on, None, &join_type, None, mode, nulls, false);
    Arc::new(join.unwrap())
}

fn context(memory: u64) -> (MemoryBudget, Arc<TaskContext>) {
    let budget = MemoryBudget::new(ByteSize(memory));
    let pool = Arc::new(GrantPool::new(budget.clone(), None));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().unwrap();
    let session = SessionContext::new_with_config_rt(SessionConfig::new().with_batch_size(256), runtime);
    (budget, session.task_ctx())
}

async fn rows(plan: &Arc<dyn ExecutionPlan>, context: &Arc<TaskContext>) -> Result<Vec<String>> {
    let batches: Vec<_> = plan.execute(0, Arc::clone(context))?.try_collect().await?;
    let table = pretty_format_batches(&batches)?.to_string();
    let mut rows: Vec<_> = table.lines().filter(|line| !line.starts_with('+')).map(str::to_owned).collect();
    rows.sort_unstable();
    Ok(rows)
}

fn spilled(plan: &Arc<dyn ExecutionPlan>) -> usize {
    plan.metrics().unwrap().spilled_bytes().unwrap_or(0)
}

#[tokio::test]
async fn with_room_nothing_is_written() {
    let (build, probe) = (side(2000, 500, 1), side(3000, 700, 2));
    let plain = join(&build, &probe, JoinType::Inner, NullEquality::NullEqualsNothing);
    let spilling = spill_joins(Arc::clone(&plain)).unwrap();
    assert_eq!(spilling.name(), "SpillingJoinExec");
    let (budget, context) = context(64 << 20);
    assert_eq!(rows(&spilling, &context).await.unwrap(), rows(&plain, &context).await.unwrap());
    assert_eq!((spilled(&spilling), budget.used()), (0, 0));
}

#[tokio::test]
async fn each_kind_of_join_gives_the_same_rows_in_files() {
    let (build, probe) = (side(4000, 900, 1), side(3000, 1100, 2));
    let (budget, scarce) = context(bytes(&build) / 2);
    for join_type in TYPES {
        for nulls in [NullEquality::NullEqualsNothing, NullEquality::NullEqualsNull] {
            let plain = join(&build, &probe, join_type, nulls);
            let expected = rows(&plain, &context(1 << 30).1).await.unwrap();
            assert!(
                rows(&plain, &scarce).await.is_err(),
                "{join_type}: there must not be room for the table"
            );
            let spilling = spill_joins(join(&build, &probe, join_type, nulls)).unwrap();
            assert_eq!(rows(&spilling, &scarce).await.unwrap(), expected, "{join_type}");
            assert!(spilled(&spilling) > 0, "{join_type}");
            drop(spilling);
            assert_eq!((budget.used(), scarce.runtime_env().disk_manager.used_disk_space()), (0, 0));
        }
    }
}

/// Lanes that look up one table.
#[tokio::test]
async fn lanes_that_share_a_table_share_its_files() {
    let (build, probe) = (side(4000, 900, 1), side(3000, 1100, 2));
    for join_type in TYPES {
        let one = join(&build, &probe, join_type, NullEquality::NullEqualsNothing);
        let expected = rows(&one, &context(1 << 30).1).await.unwrap();
        let one = one.downcast_ref::<HashJoinExec>().unwrap();
        let halves = [probe[..13].to_vec(), probe[13..].to_vec()];
        let halves = MemorySourceConfig::try_new_exec(&halves, probe[0].schema(), None).unwrap();
        let shared = one.builder().with_partition_mode(PartitionMode::CollectLeft).recompute_properties();
        let shared = shared.with_new_children(vec![Arc::clone(one.left()), halves]).unwrap();
        let spilling = spill_joins(shared.build_exec().unwrap()).unwrap();
        let (budget, scarce) = context(bytes(&build) / 2);
        let gathered: Arc<dyn ExecutionPlan> = Arc::new(CoalescePartitionsExec::new(Arc::clone(&spilling)));
        match crate::ops::emits_unmatched_left(join_type) {
            false => {
                assert_eq!(rows(&gathered, &scarce).await.unwrap(), expected, "{join_type}");
                assert!(spilled(&spilling) > 0, "{join_type}");
            }
            true => assert!(rows(&gathered, &scarce).await.is_err(), "{join_type}"),
        }
        drop((gathered, spilling));
        assert_eq!((budget.used(), scarce.runtime_env().disk_manager.used_disk_space()), (0, 0));
    }
}

#[tokio::test]
async fn a_limit_is_that_of_all_files() {
    let (build, probe) = (side(4000, 900, 1), side(3000, 1100, 2));
    let limited =
        join(&build, &probe, JoinType::Inner, NullEquality::NullEqualsNothing).with_fetch(Some(700));
    let (_budget, scarce) = context(bytes(&build) / 2);
    let spilling = spill_joins(limited.unwrap()).unwrap();
    let batches: Vec<_> = spilling.execute(0, scarce).unwrap().try_collect().await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 700);
    assert!(spilled(&spilling) > 0);
}

/// Others that hold all memory stop no join whose rows are few: it would be divided for ever.
#[tokio::test]
async fn a_small_join_goes_on_where_others_hold_all_memory() {
    let (build, probe) = (side(4000, 900, 1), side(3000, 1100, 2));
    let plain = join(&build, &probe, JoinType::Inner, NullEquality::NullEqualsNothing);
    let expected = rows(&plain, &context(1 << 30).1).await.unwrap();
    let (budget, full) = context(64 << 20);
    let others = budget.grant("others", 64 << 20).unwrap();
    let spilling = spill_joins(plain).unwrap();
    assert_eq!(rows(&spilling, &full).await.unwrap(), expected);
    assert_eq!(spilling.metrics().unwrap().spill_count(), Some(2 * super::divide::PARTS));
    drop(others);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn rows_of_one_key_that_find_no_room_are_an_error() {
    let (build, probe) = (side(60_000, 1, 0), side(10, 1, 0));
    let (budget, scarce) = context(bytes(&build) / 8);
    let spilling =
        spill_joins(join(&build, &probe, JoinType::Inner, NullEquality::NullEqualsNothing)).unwrap();
    let fault = rows(&spilling, &scarce).await.map(|rows| rows.len()).unwrap_err().to_string();
    assert!(fault.contains("memory"), "{fault}");
    drop(spilling);
    assert_eq!((budget.used(), scarce.runtime_env().disk_manager.used_disk_space()), (0, 0));
}

#[tokio::test]
async fn an_input_that_fails_is_not_read_again() {
    let build = side(4000, 900, 1);
    // The build side is a join that finds no room itself, and cannot be divided.
    let one_key = side(60_000, 1, 0);
    let inner = join(&one_key, &one_key, JoinType::LeftSemi, NullEquality::NullEqualsNothing);
    let probe =
        MemorySourceConfig::try_new_exec(std::slice::from_ref(&build), build[0].schema(), None).unwrap();
    let on = vec![(col("key", &inner.schema()).unwrap(), col("key", &probe.schema()).unwrap())];
    let (mode, nulls) = (PartitionMode::Partitioned, NullEquality::NullEqualsNothing);
    let outer = HashJoinExec::try_new(inner, probe, on, None, &JoinType::Inner, None, mode, nulls, false);
    let spilling = spill_joins(Arc::new(outer.unwrap())).unwrap();
    let (budget, scarce) = context(bytes(&one_key) / 8);
    rows(&spilling, &scarce).await.map(|rows| rows.len()).unwrap_err();
    drop(spilling);
    assert_eq!((budget.used(), scarce.runtime_env().disk_manager.used_disk_space()), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However little memory there is: the right rows, or an error and nothing left behind.
    #[test]
    fn rows_are_right_or_there_is_an_error(
        kind in 0..TYPES.len(),
        sizes in (1_usize..3000, 1_usize..3000),
        keys in (1_i64..2000, 1_i64..2000),
        memory in 20_000_u64..2_000_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (build, probe) = (side(sizes.0, keys.0, 1), side(sizes.1, keys.1, 2));
        // Some keys have so many rows on both sides that all pairs of them would take the test's time.
        prop_assume!(sizes.0 * sizes.1 / (keys.0.min(keys.1) as usize) < 200_000);
        let nothing = NullEquality::NullEqualsNothing;
        let expected = join(&build, &probe, TYPES[kind], nothing);
        let expected = runtime.block_on(rows(&expected, &context(1 << 30).1)).unwrap();
        let (budget, scarce) = context(memory);
        let spilling = spill_joins(join(&build, &probe, TYPES[kind], nothing)).unwrap();
        if let Ok(found) = runtime.block_on(rows(&spilling, &scarce)) {
            prop_assert_eq!(found, expected);
        }
        drop(spilling);
        prop_assert_eq!((budget.used(), scarce.runtime_env().disk_manager.used_disk_space()), (0, 0));
    }
}

//! What the sizes of a stage's inputs decide.

use firesteel_base::StageId;
use firesteel_engine::stage::adapt::{AdaptLimits, Adapts, Broadcast, Spares};

use super::scripts::{Script, life, stage};
use crate::machine::{Event, OutputKind, Policy, StagePlan};

const LIMITS: AdaptLimits = AdaptLimits {
    merge_below: 200,
    merge_beyond: u64::MAX,
    split_above: 1000,
    key_parts_max: 3,
    broadcast_below: 500,
    spare_inputs: true,
    pipeline_above: 0,
    speculate: false,
};

/// Two scans of two tasks each, and a join of them by key of four partitions.
fn join(adapts: Adapts) -> Vec<StagePlan> {
    let join = StagePlan { adapts, ..stage(2, 4, &[0, 1], OutputKind::Result) };
    vec![stage(0, 2, &[], OutputKind::Hash), stage(1, 2, &[], OutputKind::Hash), join]
}

fn by_key() -> Adapts {
    let divided = vec![StageId(0), StageId(1)];
    Adapts { divided, splits: Some(StageId(1)), limits: LIMITS, ..Adapts::default() }
}

fn an_empty_side_spares_the_other() -> Adapts {
    let spares = vec![Spares { empty: StageId(0), spared: vec![StageId(1)] }];
    Adapts { spares, ..by_key() }
}

fn the_join_may_be_a_broadcast() -> Adapts {
    Adapts { broadcast: Some(Broadcast { build: StageId(0), probe: StageId(1) }), ..by_key() }
}

/// Runs both tasks of a scan, each of which writes so many bytes for each partition.
fn scan(script: &mut Script, stage: u32, bytes: &[u64; 4]) {
    script.grant(stage, "a", 2);
    for task in 0..2 {
        script.finish_with(&format!("job7/s{stage}/p{task}/a0"), "a", &[bytes]);
    }
}

#[test]
fn small_partitions_are_read_by_one_task_and_a_skewed_one_by_several() {
    let mut script = Script::new(join(by_key()), &["a"]);
    scan(&mut script, 0, &[10, 10, 10, 10]);
    scan(&mut script, 1, &[50, 20, 20, 900]);
    let said = script.said();
    assert!(
        said.contains("s2 adapted: 4 partitions of 2.0KiB read as 4, a skewed one by several lanes"),
        "{said}"
    );
    script.grant(2, "a", 4);
    let inputs = "reads job7/s0/p0/a0 job7/s0/p1/a0 job7/s1/p0/a0 job7/s1/p1/a0";
    script.says(&format!(
        "launch job7/s2/p2/a0 on a under lease3 {inputs}, partitions 3..4 of s1's lanes 0..1
         launch job7/s2/p3/a0 on a under lease3 {inputs}, partitions 3..4 of s1's lanes 1..2
         launch job7/s2/p0/a0 on a under lease3 {inputs}, partitions 0..2
         launch job7/s2/p1/a0 on a under lease3 {inputs}, partitions 2..3"
    ));
}

#[test]
fn what_was_decided_stays_when_blocks_are_lost() {
    let mut script = Script::new(join(by_key()), &["a", "b"]);
    scan(&mut script, 0, &[10; 4]);
    scan(&mut script, 1, &[10; 4]);
    script.grant(2, "b", 1);
    let said = script.said();
    assert!(said.contains("launch job7/s2/p0/a0 on b"), "{said}");
    assert!(said.ends_with("partitions 0..4"), "{said}");
    script.cannot_fetch("job7/s2/p0/a0", "b", "job7/s1/p0/a0", "a");
    script.grant(1, "b", 1);
    // Other bytes than before: a second run may pack them otherwise.
    script.finish_with("job7/s1/p0/a1", "b", &[&[900; 4]]);
    script.grant(2, "b", 1);
    let said = script.said();
    assert!(said.contains("launch job7/s2/p0/a1 on b") && said.contains(", partitions 0..4"), "{said}");
}

#[test]
fn an_empty_side_ends_a_join_before_the_other_has_run() {
    let mut script = Script::new(join(an_empty_side_spares_the_other()), &["a"]);
    script.grant(1, "a", 1);
    script.said();
    scan(&mut script, 0, &[0; 4]);
    let said = script.said();
    assert!(said.contains("s2 adapted: s0 has no rows, so s1 is not read"), "{said}");
    assert!(said.contains("cancel job7/s1/p0/a0 on a"), "{said}");
    script.grant(2, "a", 1);
    let said = script.said();
    assert!(
        said.contains("launch job7/s2/p0/a0 on a under lease3 reads job7/s0/p0/a0 job7/s0/p1/a0, "),
        "{said}"
    );
}

#[test]
fn a_side_with_rows_spares_nothing() {
    let mut script = Script::new(join(an_empty_side_spares_the_other()), &["a"]);
    scan(&mut script, 0, &[0, 0, 0, 10]);
    assert!(!script.said().contains("adapted"));
}

#[test]
fn a_small_build_side_goes_to_where_the_other_sides_rows_are_made() {
    let mut script = Script::new(join(the_join_may_be_a_broadcast()), &["a"]);
    scan(&mut script, 0, &[10; 4]);
    let said = script.said();
    assert!(
        said.contains(
            "absorb s1 into s2\ns2 adapted: runs where the rows of s1 are made, s0 is read whole (80B)"
        ),
        "{said}"
    );
    assert!(said.ends_with("demand s1 0\ndemand s2 2"), "it has the partitions of what it took in: {said}");
    script.grant(2, "a", 2);
    script.says(
        "launch job7/s2/p0/a0 on a under lease2 reads job7/s0/p0/a0 job7/s0/p1/a0
         launch job7/s2/p1/a0 on a under lease2 reads job7/s0/p0/a0 job7/s0/p1/a0",
    );
}

#[test]
fn a_large_build_side_or_a_probe_side_that_has_begun_stays_as_planned() {
    let mut script = Script::new(join(the_join_may_be_a_broadcast()), &["a"]);
    scan(&mut script, 0, &[100; 4]);
    assert!(!script.said().contains("absorb"));

    let mut script = Script::new(join(the_join_may_be_a_broadcast()), &["a"]);
    script.grant(1, "a", 1);
    scan(&mut script, 0, &[10; 4]);
    assert!(!script.said().contains("absorb"));
}

#[test]
fn a_probe_side_whose_partitions_are_read_in_groups_stays_a_stage_of_its_own() {
    let probe = StagePlan {
        adapts: Adapts { divided: vec![StageId(0)], limits: LIMITS, ..Adapts::default() },
        ..stage(2, 4, &[0], OutputKind::Hash)
    };
    let broadcast = Some(Broadcast { build: StageId(1), probe: StageId(2) });
    let adapts =
        Adapts { divided: vec![StageId(1), StageId(2)], limits: LIMITS, broadcast, ..Adapts::default() };
    let join = StagePlan { adapts, ..stage(3, 4, &[1, 2], OutputKind::Result) };
    let scans = [stage(0, 2, &[], OutputKind::Hash), stage(1, 2, &[], OutputKind::Hash)];
    let mut script = Script::new(scans.into_iter().chain([probe, join]).collect(), &["a"]);
    scan(&mut script, 0, &[10; 4]);
    let said = script.said();
    assert!(said.contains("s2 adapted: 4 partitions of 80B read as 1"), "{said}");
    // It has no slot yet when the build side turns out to be small.
    scan(&mut script, 1, &[10; 4]);
    assert!(!script.said().contains("absorb"), "one partition of four would be read as planned");
    script.grant(2, "a", 1);
    let said = script.said();
    assert!(said.contains("launch job7/s2/p0/a0 on a") && said.contains("partitions 0..4"), "{said}");
}

/// A scan of two tasks, and a stage of four partitions that needs all rows of a key in one of them.
fn grouping() -> Vec<StagePlan> {
    let adapts = Adapts { divided: vec![StageId(0)], by_key: true, limits: LIMITS, ..Adapts::default() };
    let group = StagePlan { adapts, ..stage(1, 4, &[0], OutputKind::Result) };
    vec![stage(0, 2, &[], OutputKind::Hash), group]
}

fn know_keys(script: &mut Script, executors: &[&str]) {
    let knowing: Vec<_> = executors.iter().map(|name| life(name)).collect();
    script.change_each(|arrival| arrival.reads_keys = knowing.contains(&arrival.life));
}

#[test]
fn a_skewed_partition_of_a_grouping_is_read_by_several_lanes_each_some_of_its_keys() {
    let mut script = Script::new(grouping(), &["a"]);
    know_keys(&mut script, &["a"]);
    scan(&mut script, 0, &[200, 100, 900, 150]);
    let said = script.said();
    assert!(
        said.contains(
            "s1 adapted: 4 partitions of 2.6KiB read as 6, a skewed one by several lanes, divided by key"
        ),
        "{said}"
    );
    script.grant(1, "a", 3);
    let inputs = "reads job7/s0/p0/a0 job7/s0/p1/a0";
    script.says(&format!(
        "launch job7/s1/p2/a0 on a under lease2 {inputs}, partitions 2..3 of keys 0/3
         launch job7/s1/p3/a0 on a under lease2 {inputs}, partitions 2..3 of keys 1/3
         launch job7/s1/p4/a0 on a under lease2 {inputs}, partitions 2..3 of keys 2/3"
    ));
}

#[test]
fn keys_stay_divided_when_blocks_are_lost_in_the_middle() {
    let mut script = Script::new(grouping(), &["a", "b"]);
    know_keys(&mut script, &["a", "b"]);
    scan(&mut script, 0, &[200, 100, 900, 150]);
    script.grant(1, "b", 3);
    script.finish("job7/s1/p3/a0", "b");
    script.said();
    script.cannot_fetch("job7/s1/p2/a0", "b", "job7/s0/p0/a0", "a");
    script.grant(0, "b", 1);
    // Other bytes than before: nothing would be skewed.
    script.finish_with("job7/s0/p0/a1", "b", &[&[100; 4]]);
    script.grant(1, "b", 1);
    let said = script.said();
    assert!(said.contains("launch job7/s1/p2/a1 on b"), "{said}");
    assert!(said.contains("partitions 2..3 of keys 0/3"), "{said}");
    assert!(!said.contains("job7/s1/p3/a1"), "what another lane has read by the same division stays: {said}");
}

#[test]
fn nothing_is_divided_by_key_where_an_executor_would_not_know_how_to_read_it() {
    let mut script = Script::new(grouping(), &["a", "b"]);
    know_keys(&mut script, &["a"]);
    scan(&mut script, 0, &[200, 100, 900, 150]);
    assert!(!script.said().contains("adapted"));
}

#[test]
fn an_executor_that_comes_later_and_does_not_know_how_gets_no_task_of_it() {
    let mut script = Script::new(grouping(), &["a"]);
    know_keys(&mut script, &["a"]);
    scan(&mut script, 0, &[200, 100, 900, 150]);
    script.said();
    script.cluster(&["a", "b"]);
    let said = script.said();
    assert!(said.contains("demand s1 6 but b"), "{said}");
    script.grant(1, "b", 1);
    script.says("release 1 of lease2\ndemand s1 6 but b");
    // All others are gone: the job does not wait for ever.
    script.cluster(&["b"]);
    assert!(script.said().contains("demand s1 0"), "nobody could run it");
    script.now = script.now + Policy::default().no_executors_wait_max;
    script.tell(Event::Tick);
    let said = script.said();
    assert!(said.contains("job7/s1 cannot go on: all executors are of an older release"), "{said}");
}

//! Stages that begin while their inputs are still written.

use firesteel_base::{Class, StageId};
use firesteel_engine::stage::adapt::{AdaptLimits, Adapts};

use super::scripts::{Script, stage};
use crate::machine::{Event, OutputKind, StagePlan};

/// A scan of three tasks, and an aggregation of two.
fn aggregation(merge_below: u64) -> Vec<StagePlan> {
    let limits = AdaptLimits { pipeline_above: 100, merge_below, ..AdaptLimits::NEVER };
    let inputs = vec![StageId(0)];
    let adapts = Adapts { divided: inputs.clone(), pipelined: inputs, limits, ..Adapts::default() };
    let reads = StagePlan { adapts, ..stage(1, 2, &[0], OutputKind::Result) };
    vec![stage(0, 3, &[], OutputKind::Hash), reads]
}

/// All tasks of the scan run on `a`, and the first of them is done.
fn one_of_three_done(stages: Vec<StagePlan>, bytes: u64) -> Script {
    let mut script = Script::new(stages, &["a", "b"]);
    script.grant(0, "a", 3);
    script.said();
    script.finish_with("job7/s0/p0/a0", "a", &[&[bytes, bytes]]);
    script
}

#[test]
fn free_slots_read_what_is_there_and_are_told_of_the_rest() {
    let mut script = one_of_three_done(aggregation(0), 100);
    script.says("release 1 of lease1\ndemand s1 2 early");
    script.grant(1, "b", 1);
    script.says(
        "s1 pipelined: began when 1 of 3 tasks of s0 were done
         launch job7/s1/p0/a0 on b under lease2 reads job7/s0/p0/a0, more of s0",
    );
    script.finish_with("job7/s0/p1/a0", "a", &[&[100, 100]]);
    script.says("tell job7/s1/p0/a0 on b job7/s0/p1/a0, more is coming\nrelease 1 of lease1");
    script.finish_with("job7/s0/p2/a0", "a", &[&[100, 100]]);
    // Now it is a stage like any other, and what it still needs is needed.
    script.says("tell job7/s1/p0/a0 on b job7/s0/p2/a0\nrelease 1 of lease1\ndemand s1 1");
    script.grant(1, "a", 1);
    script.says("launch job7/s1/p1/a0 on a under lease3 reads job7/s0/p0/a0 job7/s0/p1/a0 job7/s0/p2/a0");
}

#[test]
fn who_waits_makes_room_for_what_has_to_be_run_again() {
    let mut script = one_of_three_done(aggregation(0), 100);
    script.grant(1, "b", 2);
    script.said();
    script.fail_with("job7/s0/p1/a0", "a", Class::Transient);
    script.says(
        "cancel job7/s1/p0/a0 on b
         cancel job7/s1/p1/a0 on b
         release 1 of lease1
         demand s0 1 but a",
    );
    script.fail_with("job7/s1/p0/a0", "b", Class::Cancelled);
    script.fail_with("job7/s1/p1/a0", "b", Class::Cancelled);
    script.says("release 1 of lease2\nrelease 1 of lease2");
    script.grant(0, "b", 1);
    script.tell(Event::Tick);
    script.says("launch job7/s0/p1/a1 on b under lease3\ndemand s1 2 early");
}

#[test]
fn a_lost_output_stops_those_that_were_told_of_it_while_they_wait_for_others() {
    let mut script = one_of_three_done(aggregation(0), 100);
    script.grant(1, "b", 1);
    script.said();
    script.cannot_fetch("job7/s1/p0/a0", "b", "job7/s0/p0/a0", "a");
    script.says("free job7/s0/p0/a0 on a\nrelease 1 of lease2\ndemand s0 1 but a\ndemand s1 0");
}

#[test]
fn little_to_read_waits_for_all_of_it() {
    let mut script = one_of_three_done(aggregation(0), 10);
    script.says("release 1 of lease1");
}

#[test]
fn partitions_that_sizes_would_put_together_wait_for_all_of_them() {
    let mut script = one_of_three_done(aggregation(10_000), 100);
    script.says("release 1 of lease1");
}

#[test]
fn without_the_setting_nothing_begins_early() {
    let mut stages = aggregation(0);
    stages[1].adapts.limits.pipeline_above = 0;
    one_of_three_done(stages, 100).says("release 1 of lease1");
}

#[test]
fn a_side_that_every_task_reads_whole_is_waited_for() {
    let mut stages = aggregation(0);
    stages[1].adapts.pipelined.clear();
    one_of_three_done(stages, 100).says("release 1 of lease1");
}

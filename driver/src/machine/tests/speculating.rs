//! Second attempts of tasks that take much longer than others.

use std::time::Duration;

use firesteel_base::Class;
use firesteel_engine::stage::adapt::{AdaptLimits, Adapts};

use super::scripts::{Script, stage};
use crate::machine::{Event, OutputKind, StagePlan};

fn speculating(stage: StagePlan) -> StagePlan {
    let limits = AdaptLimits { speculate: true, ..AdaptLimits::NEVER };
    StagePlan { adapts: Adapts { limits, ..Adapts::default() }, ..stage }
}

/// A scan of four tasks, two on each of two executors of which `b` is slow, read by one task.
fn scan() -> Script {
    let stages = vec![
        speculating(stage(0, 4, &[], OutputKind::Hash)),
        speculating(stage(1, 1, &[0], OutputKind::Result)),
    ];
    let mut script = Script::new(stages, &["a", "b"]);
    script.grant(0, "a", 2);
    script.grant(0, "b", 2);
    script.said();
    script
}

impl Script {
    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.tell(Event::Tick);
    }
}

/// Both tasks of `a` are done after three seconds.
fn half_done() -> Script {
    let mut script = scan();
    script.pass(3);
    script.finish("job7/s0/p0/a0", "a");
    script.finish("job7/s0/p1/a0", "a");
    script.said();
    script
}

#[test]
fn a_task_that_takes_twice_as_long_as_others_runs_a_second_time_elsewhere_and_the_first_to_end_counts() {
    let mut script = half_done();
    assert_eq!(script.machine.next_deadline().unwrap() - script.now, Duration::from_secs(3));
    script.pass(2);
    script.says("");
    script.finish("job7/s0/p3/a0", "b");
    script.said();
    script.pass(1);
    script.says("demand s0 1 early but b");
    script.grant(0, "a", 1);
    script.says(
        "s0 speculated: task 2 was begun a second time after 6.0 s on b/e0
         launch job7/s0/p2/a1 on a under lease3",
    );
    // The second is first: the other is stopped, and what it wrote all the same is freed.
    script.finish("job7/s0/p2/a1", "a");
    script.says("cancel job7/s0/p2/a0 on b\nrelease 1 of lease3\ndemand s1 1");
    script.finish("job7/s0/p2/a0", "b");
    script.says("free job7/s0/p2/a0 on b\nrelease 1 of lease2");
}

#[test]
fn the_first_attempt_may_still_be_the_first() {
    let mut script = half_done();
    script.finish("job7/s0/p3/a0", "b");
    script.pass(4);
    script.grant(0, "a", 1);
    script.said();
    script.finish("job7/s0/p2/a0", "b");
    script.says("cancel job7/s0/p2/a1 on a\nrelease 1 of lease2\ndemand s1 1");
    script.fail_with("job7/s0/p2/a1", "a", Class::Cancelled);
    script.says("release 1 of lease3");
}

#[test]
fn a_second_attempt_that_fails_leaves_the_first_one_alone_and_is_made_again() {
    let mut script = half_done();
    script.finish("job7/s0/p3/a0", "b");
    script.pass(4);
    script.grant(0, "a", 1);
    script.said();
    script.fail_with("job7/s0/p2/a1", "a", Class::Transient);
    assert!(script.said().contains("launch job7/s0/p2/a2 on a"));
    // Of four attempts that may fail one is left for the first: no more are made beside it.
    script.fail_with("job7/s0/p2/a2", "a", Class::Transient);
    script.pass(60);
    script.says("release 1 of lease3");
    script.finish("job7/s0/p2/a0", "b");
    assert!(script.said().contains("demand s1 1"));
}

#[test]
fn what_writes_as_fast_as_others_is_no_straggler_but_larger() {
    let mut script = scan();
    script.pass(3);
    script.finish_with("job7/s0/p0/a0", "a", &[&[3000, 3000]]);
    script.finish_with("job7/s0/p1/a0", "a", &[&[3000, 3000]]);
    script.finish_with("job7/s0/p3/a0", "b", &[&[3000, 3000]]);
    script.said();
    // 2000 bytes a second were written by each of the others.
    script.progress("job7/s0/p2/a0", "b", 14_000);
    script.pass(4);
    script.says("");
    script.pass(60);
    script.says("demand s0 1 early but b");
}

#[test]
fn a_task_that_reads_more_is_given_more_time() {
    let reads = speculating(stage(1, 4, &[0], OutputKind::Hash));
    let stages =
        vec![stage(0, 1, &[], OutputKind::Hash), reads, speculating(stage(2, 1, &[1], OutputKind::Result))];
    let mut script = Script::new(stages, &["a", "b"]);
    script.grant(0, "a", 1);
    let mib = 1 << 20;
    script.finish_with("job7/s0/p0/a0", "a", &[&[mib, mib, mib, 10 * mib]]);
    script.grant(1, "a", 2);
    script.grant(1, "b", 2);
    script.said();
    script.pass(3);
    // The one with ten times the input was begun first, where that lies.
    for (task, on) in [(0, "a"), (1, "b"), (2, "b")] {
        script.finish(&format!("job7/s1/p{task}/a0"), on);
    }
    assert_eq!(script.machine.snapshot().stages[1].done, 3);
    script.said();
    script.pass(20);
    script.says("");
    script.pass(40);
    assert!(script.said().contains("demand s1 1 early"));
}

#[test]
fn it_is_not_done_where_it_is_switched_off_nor_in_the_last_stage() {
    for stages in [
        vec![stage(0, 4, &[], OutputKind::Hash), stage(1, 1, &[0], OutputKind::Result)],
        vec![speculating(stage(0, 4, &[], OutputKind::Result))],
    ] {
        let mut script = Script::new(stages, &["a", "b"]);
        script.grant(0, "a", 2);
        script.grant(0, "b", 2);
        script.pass(1);
        script.finish("job7/s0/p0/a0", "a");
        script.finish("job7/s0/p1/a0", "a");
        script.finish("job7/s0/p2/a0", "b");
        script.said();
        script.pass(3600);
        script.says("");
    }
}

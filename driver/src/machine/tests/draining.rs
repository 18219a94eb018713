//! Workers that are drained: what lies there moves, and what runs there is nobody's failure.

use std::time::Duration;

use firesteel_base::Class;

use super::scripts::{Script, life, stage, two_stages};
use crate::machine::{Event, LeftThere, OutputKind};

impl Script {
    fn drain(&mut self, workers: &[&str], takers: &[&str]) {
        let workers = workers.iter().map(|name| name.parse().unwrap()).collect();
        let takers: Vec<_> = takers.iter().map(|name| life(name)).collect();
        self.change_each(|arrival| arrival.takes_outputs = takers.contains(&arrival.life));
        self.tell(Event::Draining { workers });
    }

    fn taken(&mut self, producer: &str, by: &str) {
        self.tell(Event::OutputTaken { producer: producer.parse().unwrap(), life: life(by) });
    }

    fn gone(&mut self, name: &str, blocks_kept: bool) {
        self.tell(Event::ExecutorGone {
            life: life(name),
            reason: "its worker left".to_owned(),
            blocks_kept,
        });
    }
}

/// The scan done on `a` and `b`; one task of the second stage runs on `c`.
fn second_stage_begun() -> Script {
    let mut script = Script::new(two_stages(), &["a", "b", "c"]);
    script.grant(0, "a", 1);
    script.grant(0, "b", 1);
    script.finish("job7/s0/p0/a0", "a");
    script.finish("job7/s0/p1/a0", "b");
    script.grant(1, "c", 1);
    script.said();
    script
}

#[test]
fn what_lies_on_a_drained_worker_moves_and_readers_are_told() {
    let mut script = second_stage_begun();
    script.drain(&["a"], &["a", "b", "c"]);
    script.says(
        "take job7/s0/p0/a0 from a to b
         left at a: 0 running, 1 held, 200 bytes",
    );
    script.taken("job7/s0/p0/a0", "b");
    script.says(
        "moved job7/s0/p0/a0 to b, tell c
         left at a: 0 running, 0 held, 0 bytes
         demand s1 1",
    );
    assert_eq!(script.machine.left_at(&"a".parse().unwrap()), LeftThere::default());
    script.gone("a", false);
    script.says("");
    script.grant(1, "b", 1);
    script.says("launch job7/s1/p1/a0 on b under lease4 reads job7/s0/p0/a0 job7/s0/p1/a0");
    script.finish("job7/s1/p0/a0", "c");
    script.finish("job7/s1/p1/a0", "b");
    script.says(
        "release 1 of lease3
         free s0 on b
         release 1 of lease4
         result job7/s1/p0/a0 job7/s1/p1/a0",
    );
}

#[test]
fn nothing_is_launched_there_and_what_runs_there_may_end() {
    let mut script = Script::new(two_stages(), &["a", "b"]);
    script.grant(0, "a", 1);
    script.said();
    script.drain(&["a"], &["a", "b"]);
    script.says("left at a: 1 running, 0 held, 0 bytes");
    script.finish("job7/s0/p0/a0", "a");
    script.says(
        "release 1 of lease1
         take job7/s0/p0/a0 from a to b
         left at a: 0 running, 1 held, 200 bytes",
    );
    script.grant(0, "a", 1);
    script.says("release 1 of lease2\n demand s0 1");
}

#[test]
fn attempts_that_are_lost_with_a_drained_worker_are_no_failures() {
    let mut script = Script::new(vec![stage(0, 1, &[], OutputKind::Result)], &["a", "b"]);
    for round in 0..20 {
        script.drain(&[], &["a", "b"]);
        script.grant(0, "a", 1);
        script.drain(&["a"], &["a", "b"]);
        script.said();
        let attempt = format!("job7/s0/p0/a{round}");
        match round % 3 {
            0 => script.fail_with(&attempt, "a", Class::Transient),
            1 => script.fail_with(&attempt, "a", Class::Cancelled),
            _ => {
                script.tell(Event::LinkLost { life: life("a"), reason: "cut".to_owned(), blocks_kept: false })
            }
        }
        assert!(script.said().contains("demand s0 1"), "round {round}");
        assert_eq!(script.machine.snapshot().stages[0].failed_attempts, 0);
    }
    script.grant(0, "b", 1);
    assert!(script.said().contains("launch job7/s0/p0/a20 on b"));
}

#[test]
fn an_output_that_cannot_be_taken_is_offered_to_another_and_then_stays() {
    let mut script = second_stage_begun();
    script.drain(&["a"], &["b", "c"]);
    script.said();
    let refused = |script: &mut Script, by: &str| {
        script.tell(Event::OutputNotTaken { producer: "job7/s0/p0/a0".parse().unwrap(), life: life(by) });
    };
    refused(&mut script, "b");
    script.says("take job7/s0/p0/a0 from a to c");
    refused(&mut script, "c");
    script.says("");
    script.gone("a", false);
    script.says(
        "left at a: 0 running, 0 held, 0 bytes
         demand s0 1
         demand s1 0",
    );
}

#[test]
fn one_who_takes_and_is_lost_is_replaced_and_one_who_is_late_lets_go() {
    let mut script = second_stage_begun();
    script.drain(&["a"], &["b"]);
    script.said();
    script.tell(Event::LinkLost { life: life("b"), reason: "cut".to_owned(), blocks_kept: true });
    script.drain(&["a"], &["b", "c"]);
    script.says("take job7/s0/p0/a0 from a to c");
    script.taken("job7/s0/p0/a0", "b");
    script.says("free job7/s0/p0/a0 on b");
    script.taken("job7/s0/p0/a0", "c");
    script.says(
        "moved job7/s0/p0/a0 to c, tell c
         left at a: 0 running, 0 held, 0 bytes
         demand s1 1",
    );
}

/// Asking it at once would go on and on; never again, nobody might be left to take anything.
#[test]
fn one_who_is_out_of_reach_is_asked_again_when_the_cluster_has_changed() {
    let mut script = second_stage_begun();
    script.drain(&["a"], &["b"]);
    script.says(
        "take job7/s0/p0/a0 from a to b
         left at a: 0 running, 1 held, 200 bytes",
    );
    script.tell(Event::LinkLost { life: life("b"), reason: "cut".to_owned(), blocks_kept: true });
    script.says("");
    script.tell(Event::Tick);
    script.says("");
    script.cluster(&["a", "b", "c", "d"]);
    script.says("take job7/s0/p0/a0 from a to b");
}

#[test]
fn a_life_that_is_over_takes_nothing_whatever_is_said_of_it_and_its_next_one_does() {
    let mut script = second_stage_begun();
    script.drain(&["a"], &[]);
    script.gone("c", false);
    script.said();
    script.change_each(|arrival| arrival.takes_outputs = arrival.life == life("c"));
    script.says("");
    script.change_each(|arrival| {
        if arrival.life == life("c") {
            arrival.life.epoch.0 += 1;
        }
    });
    script.says("take job7/s0/p0/a0 from a to c");
}

#[test]
fn what_was_taken_after_the_worker_was_to_stay_again_does_not_lie_at_both() {
    let mut script = second_stage_begun();
    script.drain(&["a"], &["b"]);
    script.drain(&[], &["b"]);
    script.said();
    script.taken("job7/s0/p0/a0", "b");
    script.says(
        "moved job7/s0/p0/a0 to b, tell c
         demand s1 1",
    );
    script.cluster(&["a", "b", "c", "d"]);
    script.says("free job7/s0/p0/a0 on a");
}

/// The first copy is there until its executor ends.
#[test]
fn when_the_new_holder_is_lost_the_old_one_is_read_again() {
    let mut script = second_stage_begun();
    script.drain(&["a"], &["b"]);
    script.taken("job7/s0/p0/a0", "b");
    script.said();
    script.gone("b", false);
    script.says(
        "moved job7/s0/p0/a0 to a, tell c
         left at a: 0 running, 1 held, 200 bytes
         demand s0 1
         demand s1 0",
    );
}

/// Whoever has read an output at its old place and not heard of the new one has nobody run again for it.
#[test]
fn a_reader_that_comes_to_the_old_place_too_late_just_reads_again() {
    let mut script = second_stage_begun();
    script.drain(&["a"], &["b"]);
    script.taken("job7/s0/p0/a0", "b");
    script.gone("a", false);
    script.said();
    script.cannot_fetch("job7/s1/p0/a0", "c", "job7/s0/p0/a0", "a");
    script.says("launch job7/s1/p0/a1 on c under lease3 reads job7/s0/p0/a0 job7/s0/p1/a0");
}

#[test]
fn when_a_worker_stays_after_all_what_was_left_behind_is_freed_and_it_is_used_again() {
    let mut script = second_stage_begun();
    script.drain(&["a"], &["b"]);
    script.taken("job7/s0/p0/a0", "b");
    script.said();
    script.drain(&[], &["a", "b", "c"]);
    script.says("free job7/s0/p0/a0 on a");
    script.grant(1, "a", 1);
    script.says("launch job7/s1/p1/a0 on a under lease4 reads job7/s0/p0/a0 job7/s0/p1/a0");
}

#[test]
fn what_an_executor_left_behind_that_is_gone_moves_too() {
    let mut script = second_stage_begun();
    script.gone("a", true);
    script.drain(&["a"], &["b", "c"]);
    script.says(
        "take job7/s0/p0/a0 from a to b
         left at a: 0 running, 1 held, 200 bytes",
    );
}

#[test]
fn a_result_that_moves_is_shown_again() {
    let mut script = second_stage_begun();
    script.finish("job7/s1/p0/a0", "c");
    script.finish("job7/s1/p1/a0", "c");
    script.said();
    script.drain(&["c"], &["a", "b"]);
    script.said();
    script.taken("job7/s1/p0/a0", "a");
    let said = script.said();
    assert!(said.contains("moved job7/s1/p0/a0 to a\nresult job7/s1/p0/a0 job7/s1/p1/a0"), "{said}");
}

#[test]
fn a_manager_that_is_new_is_told_again_what_is_left() {
    let mut script = second_stage_begun();
    script.drain(&["b"], &[]);
    script.says("left at b: 0 running, 1 held, 200 bytes");
    script.tell(Event::ManagerBack { leases: [3].map(firesteel_base::LeaseId).into() });
    assert!(script.said().contains("left at b: 0 running, 1 held, 200 bytes"));
}

#[test]
fn a_job_that_has_only_drained_workers_left_says_why_it_ends() {
    let mut script = Script::new(two_stages(), &["a"]);
    script.drain(&["a"], &["a"]);
    script.said();
    let due = script.machine.next_deadline().unwrap();
    assert_eq!(due - script.now, Duration::from_secs(60));
    script.now = due;
    script.tell(Event::Tick);
    assert!(script.said().contains("settled failed: job7 cannot go on: every worker is being drained"));
}

/// What runs may end, and what is there may be read, for as long as it takes.
#[test]
fn a_job_that_needs_no_other_worker_goes_on_where_all_are_drained() {
    let mut script = Script::new(vec![stage(0, 1, &[], OutputKind::Result)], &["a"]);
    script.grant(0, "a", 1);
    script.drain(&["a"], &["a"]);
    assert_eq!(script.machine.next_deadline(), None);
    script.finish("job7/s0/p0/a0", "a");
    script.now = script.now + Duration::from_secs(600);
    script.tell(Event::Tick);
    assert!(script.said().contains("result job7/s0/p0/a0"));
}

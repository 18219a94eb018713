//! What is counted for a task, or for a lease, does not grow with the cluster. Times are not looked at.

#![allow(clippy::unwrap_used)]

use firesteel_sim::scale::{Report, Scale, run};

/// Cluster after cluster that is four times the one before, with four times the jobs and tasks. Tasks come faster than they are
/// done, so that jobs wait for slots, and slots are asked back.
fn ladder() -> Vec<Report> {
    let of = |times: u32| Scale {
        nodes: 20 * times,
        slots: 4,
        jobs: 6 * times,
        tasks: 1_200 * times,
        arrival_s: 20,
        seed: 7,
    };
    [1, 4, 16].into_iter().map(|times| run(&of(times), || 0, &mut |_| {})).collect()
}

fn assert_does_not_grow(reports: &[Report], what: &str, of: impl Fn(&Report) -> f64) {
    let found: Vec<f64> = reports.iter().map(of).collect();
    assert!(found[0] > 0.0, "{what}: nothing is counted");
    assert!(found.iter().all(|value| *value < 1.3 * found[0]), "{what} grows with the cluster: {found:?}");
}

#[test]
fn what_is_said_and_looked_at_for_a_task_does_not_grow_with_the_cluster() {
    let reports = ladder();
    for report in &reports {
        let Scale { nodes, slots, tasks, .. } = report.scale;
        assert_eq!(report.tasks, u64::from(tasks), "each task is done once");
        assert_eq!(report.tally.running_max, u64::from(nodes * slots), "all slots are used");
        assert!(report.tally.from_manager.of("revoke").messages > 0, "slots are asked back");
    }
    let tasks = |report: &Report| report.tasks as f64;
    let grants = |report: &Report| report.tally.grants as f64;
    assert_does_not_grow(&reports, "messages to the manager for a task", |report| {
        report.tally.to_manager.total().messages as f64 / tasks(report)
    });
    assert_does_not_grow(&reports, "bytes to the manager for a task", |report| {
        report.tally.to_manager.total().bytes as f64 / tasks(report)
    });
    assert_does_not_grow(&reports, "messages of the manager for a task", |report| {
        report.tally.from_manager.total().messages as f64 / tasks(report)
    });
    assert_does_not_grow(&reports, "launches for a task", |report| {
        report.tally.to_executors.of("launch").messages as f64 / tasks(report)
    });
    assert_does_not_grow(&reports, "stages placed for a lease", |report| {
        report.tally.work.stages as f64 / grants(report)
    });
    assert_does_not_grow(&reports, "jobs looked at for a lease", |report| {
        report.tally.work.jobs as f64 / grants(report)
    });
    // The more executors there are the fewer tasks of a job share one, to which its plan is sent once.
    for report in &reports {
        let told = report.tally.to_executors.total().messages as f64 / tasks(report);
        assert!(told < 5.0, "{told} messages to executors for a task");
    }
}

/// Each driver must know each executor once, and hears of no other twice.
#[test]
fn of_the_cluster_drivers_are_told_what_has_changed() {
    let scale = Scale { nodes: 400, slots: 2, jobs: 10, tasks: 1_000, arrival_s: 1, seed: 1 };
    let tally = run(&scale, || 0, &mut |_| {}).tally;
    let (welcome, change) = (tally.from_manager.of("welcome"), tally.from_manager.of("cluster changed"));
    assert_eq!((welcome.messages, change.messages), (10, 40), "four nodes come when all drivers are there");
    let for_an_executor = welcome.bytes / welcome.messages / 396;
    let for_a_change = change.bytes / change.messages;
    assert!(
        for_a_change < 2 * for_an_executor,
        "{for_a_change} bytes for one, {for_an_executor} in a welcome"
    );
}

#[test]
fn the_same_options_come_to_the_same() {
    let scale = Scale { nodes: 30, slots: 4, jobs: 8, tasks: 2_000, arrival_s: 10, seed: 3 };
    let counted = || {
        let report = run(&scale, || 0, &mut |_| {});
        let tally = &report.tally;
        let kinds = [&tally.to_manager, &tally.from_manager, &tally.to_executors, &tally.from_executors];
        (report.virtual_time, report.tasks, tally.grants, tally.work, kinds.map(Clone::clone))
    };
    assert_eq!(counted(), counted());
}

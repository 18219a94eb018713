//! Fair sharing: who gets free slots, and who is asked to give some back.

use super::*;

fn release(world: &mut World, driver: SessionId, lease: u64, tasks: u32) -> Vec<String> {
    world.driver_says(driver, DriverEvent::Release { lease: LeaseId(lease), tasks })
}

#[test]
fn free_slots_go_to_whoever_holds_least_and_then_to_the_oldest() {
    let mut world = World::new();
    let (d1, first) = world.job();
    let (d2, second) = world.job();
    world.demand(d1, first, 10);
    world.demand(d2, second, 10);
    world.worker("a", &[5]);
    assert_eq!((world.held(first), world.held(second)), (3, 2));
}

#[test]
fn weights_divide_the_slots() {
    let mut world = World::new();
    let d = world.driver();
    let (light, heavy) = (world.open(d, 1), world.open(d, 3));
    world.demand(d, light, 100);
    world.demand(d, heavy, 100);
    world.worker("a", &[8]);
    assert_eq!((world.held(light), world.held(heavy)), (2, 6));
}

#[test]
fn a_job_that_waits_below_its_share_gets_slots_back_each_asked_for_once() {
    let mut world = World::new();
    world.worker("a", &[4]);
    let (d1, first) = world.job();
    world.demand(d1, first, 10);
    assert_eq!(world.held(first), 4);
    let (d2, second) = world.job();
    assert_eq!(world.demand(d2, second, 10), ["d2 revoke lease1 x2"]);
    assert_eq!(world.demand(d2, second, 10), [""; 0], "they were asked for");
    assert_eq!(release(&mut world, d1, 1, 1), ["d3 grant lease2 job2/s0 a/e0 x1"]);
    assert_eq!(release(&mut world, d1, 1, 1), ["d3 grant lease3 job2/s0 a/e0 x1"]);
    assert_eq!((world.held(first), world.held(second)), (2, 2));
    assert_eq!(world.demand(d1, first, 10), [""; 0], "both have their share");
}

#[test]
fn a_job_that_wants_less_than_its_share_gets_no_more_than_it_wants() {
    let mut world = World::new();
    world.worker("a", &[8]);
    let (d1, first) = world.job();
    world.demand(d1, first, 100);
    let (d2, second) = world.job();
    assert_eq!(world.demand(d2, second, 1), ["d2 revoke lease1 x1"]);
    world.demand(d2, second, 0);
    assert_eq!(release(&mut world, d1, 1, 1), ["d2 grant lease2 job1/s0 a/e0 x1"], "it is wanted no more");
}

#[test]
fn those_most_above_their_share_give_first() {
    let mut world = World::new();
    world.worker("a", &[6]);
    let (d1, small) = world.job();
    world.demand(d1, small, 2);
    let (d2, large) = world.job();
    world.demand(d2, large, 100);
    assert_eq!((world.held(small), world.held(large)), (2, 4));
    let (d3, third) = world.job();
    assert_eq!(world.demand(d3, third, 2), ["d3 revoke lease2 x2"]);
}

#[test]
fn queues_share_before_jobs_do() {
    let mut world = World::new();
    let d = world.driver();
    let mut open = |queue: &str| {
        let told =
            world.driver_says(d, DriverEvent::OpenJob(OpenJob { queue: queue.to_owned(), ..open_job() }));
        opened(&told)
    };
    let jobs = [open("night"), open("night"), open("night"), open("day")];
    for job in jobs {
        world.demand(d, job, 100);
    }
    world.worker("a", &[12]);
    assert_eq!(jobs.map(|job| world.held(job)), [2, 2, 2, 6]);
}

#[test]
fn a_wide_task_gathers_its_slots_on_one_executor() {
    let mut world = World::new();
    world.worker("a", &[4]);
    world.worker("b", &[4]);
    let (narrow, first) = world.job();
    world.demand(narrow, first, 100);
    assert_eq!(world.held(first), 8);
    let (wide, second) = world.job();
    let told = world.driver_says(wide, DriverEvent::Demand(Demand { cores_per_task: 4, ..demand(second) }));
    assert_eq!(told, ["d3 revoke lease2 x4"], "all on one executor");
    assert_eq!(release(&mut world, narrow, 2, 3), [""; 0], "what comes back is kept for the wide task");
    assert_eq!(release(&mut world, narrow, 2, 1), ["d4 grant lease3 job2/s0 b/e0 x1"]);
}

#[test]
fn a_gang_gets_all_or_nothing() {
    let mut world = World::new();
    world.worker("a", &[2]);
    world.worker("b", &[2]);
    let (d1, first) = world.job();
    world.demand(d1, first, 1);
    let (d2, gang) = world.job();
    let wanted = Demand { tasks: 4, gang: true, ..demand(gang) };
    assert_eq!(world.driver_says(d2, DriverEvent::Demand(wanted)), [""; 0], "3 of 4 are none");
    assert_eq!(
        release(&mut world, d1, 1, 1),
        ["d4 grant lease2 job2/s0 a/e0 x2", "d4 grant lease3 job2/s0 b/e0 x2"]
    );
}

#[test]
fn a_demand_becomes_less_by_what_was_lent_and_by_what_is_not_needed_any_more() {
    let mut world = World::new();
    world.worker("a", &[2]);
    let (d, job) = world.job();
    world.demand(d, job, 5);
    let less = |tasks| DriverEvent::LessDemand { job, stage: StageId(0), tasks };
    assert_eq!(world.driver_says(d, less(2)), [""; 0]);
    assert_eq!(world.machine.job(job).unwrap().demands[&StageId(0)].tasks, 1);
    let (other, _) = world.job();
    assert_eq!(world.driver_says(other, less(1)), [""; 0], "it is not its job");
    assert_eq!(world.driver_says(d, less(7)), [""; 0], "what was lent meanwhile is not needed twice");
    assert!(world.machine.job(job).unwrap().demands.is_empty());
    assert_eq!(world.driver_says(d, less(1)), [""; 0], "nothing is left of it");
}

/// As the shell does with what waits for it.
#[test]
fn of_much_that_comes_at_once_slots_are_lent_once() {
    let mut world = World::new();
    world.worker("a", &[4]);
    let (d1, first) = world.job();
    world.demand(d1, first, 4);
    let (d2, second) = world.job();
    let mut effects = Vec::new();
    let lease = LeaseId(1);
    let wanted = DriverEvent::Demand(Demand { tasks: 4, ..demand(second) });
    for event in [
        Event::Driver(d1, DriverEvent::Release { lease, tasks: 1 }),
        Event::Driver(d2, wanted),
        Event::Driver(d1, DriverEvent::Release { lease, tasks: 2 }),
    ] {
        world.machine.hear(world.now, event, &mut effects);
    }
    assert_eq!(effects, [], "nothing is lent before all is taken in");
    world.machine.settle(world.now, &mut effects);
    assert_eq!(effects.len(), 2, "one lease, and a job that has begun: {effects:?}");
    assert_eq!((world.held(first), world.held(second)), (1, 3));
    world.machine.check();
}

fn early(job: JobId, tasks: u32) -> DriverEvent {
    DriverEvent::Demand(Demand { stage: StageId(1), tasks, early: true, ..demand(job) })
}

#[test]
fn early_tasks_get_what_nobody_needs_and_nothing_is_asked_back_for_them() {
    let mut world = World::new();
    world.worker("a", &[4]);
    let (d1, first) = world.job();
    assert_eq!(world.driver_says(d1, early(first, 3)), ["d2 grant lease1 job1/s1 a/e0 x3"]);
    let (d2, second) = world.job();
    world.demand(d2, second, 1);
    // The job that holds them is above its share of what is needed, as it needs nothing.
    assert_eq!(world.demand(d2, second, 4), ["d2 revoke lease1 x1"]);
    let (d3, third) = world.job();
    assert_eq!(world.driver_says(d3, early(third, 2)), [""; 0], "nothing is asked back for it");
    assert_eq!(
        release(&mut world, d1, 1, 1),
        ["d3 grant lease3 job2/s0 a/e0 x1"],
        "who needs it comes first"
    );
}

#[test]
fn what_is_kept_for_a_wide_task_is_not_lent_to_early_ones() {
    let mut world = World::new();
    world.worker("a", &[4]);
    world.worker("b", &[4]);
    let (narrow, first) = world.job();
    world.demand(narrow, first, 8);
    let (wide, second) = world.job();
    let wanted = Demand { cores_per_task: 4, ..demand(second) };
    assert_eq!(world.driver_says(wide, DriverEvent::Demand(wanted)), ["d3 revoke lease2 x4"]);
    assert_eq!(world.driver_says(narrow, early(first, 4)), [""; 0]);
    assert_eq!(release(&mut world, narrow, 2, 3), [""; 0]);
    assert_eq!(release(&mut world, narrow, 2, 1), ["d4 grant lease3 job2/s0 b/e0 x1"]);
}

#[test]
fn an_early_demand_becomes_one_like_others_when_it_is_said_again() {
    let mut world = World::new();
    world.worker("a", &[2]);
    let (d1, first) = world.job();
    world.demand(d1, first, 2);
    let (d2, second) = world.job();
    assert_eq!(world.driver_says(d2, early(second, 1)), [""; 0]);
    let needed = Demand { stage: StageId(1), tasks: 1, ..demand(second) };
    assert_eq!(world.driver_says(d2, DriverEvent::Demand(needed)), ["d2 revoke lease1 x1"]);
}

#[test]
fn memory_is_a_limit_like_cores() {
    let mut world = World::new();
    world.worker("a", &[8]);
    let (d, job) = world.job();
    let wanted = Demand { tasks: 8, memory_per_task: 3 * GIB, ..demand(job) };
    assert_eq!(world.driver_says(d, DriverEvent::Demand(wanted)), ["d2 grant lease1 job1/s0 a/e0 x2"]);
    let rest = Demand { stage: StageId(1), tasks: 8, ..demand(job) };
    assert_eq!(world.driver_says(d, DriverEvent::Demand(rest)), ["d2 grant lease2 job1/s1 a/e0 x6"]);
}

#[test]
fn tasks_follow_their_input_and_shun_excluded_executors() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.worker(name, &[4]);
    }
    let (d, job) = world.job();
    let inputs = vec![(executor("b/e0"), 300), (executor("c/e0"), 100), (executor("gone/e0"), 999)];
    let at_input = Demand { tasks: 4, inputs: inputs.clone(), ..demand(job) };
    assert_eq!(
        world.driver_says(d, DriverEvent::Demand(at_input)),
        ["d4 grant lease1 job1/s0 b/e0 x3", "d4 grant lease2 job1/s0 c/e0 x1"]
    );
    let elsewhere =
        Demand { tasks: 1, inputs, excluded: vec![executor("b/e0"), executor("c/e0")], ..demand(job) };
    assert_eq!(world.driver_says(d, DriverEvent::Demand(elsewhere)), ["d4 grant lease3 job1/s0 a/e0 x1"]);
}

/// A thousand workers with one executor each.
fn a_thousand(slots: u32) -> World {
    let mut world = World::new();
    for node in 0..1000 {
        let (session, name) = (world.next_session(), format!("n{node}"));
        let register = WorkerEvent::Register(registration(&name, "first", &[slots]));
        for event in [register, WorkerEvent::ExecutorUp(up(&name, 0, 1))] {
            world.machine.step(world.now, Event::Worker(session, event), &mut Vec::new());
        }
    }
    world
}

#[test]
fn a_step_over_a_thousand_nodes_is_quick() {
    let mut world = a_thousand(16);
    let (d, job) = world.job();
    let began = std::time::Instant::now();
    let told = world.demand(d, job, 10_000);
    let took = began.elapsed();
    assert_eq!((told.len(), world.held(job)), (1000, 10_000));
    assert!(took < Duration::from_secs(1), "it took {took:?}");
}

#[test]
fn a_step_over_a_full_cluster_with_many_waiting_jobs_is_quick() {
    let mut world = a_thousand(16);
    let d = world.driver();
    let first = world.open(d, 1);
    world.demand(d, first, 100_000);
    assert_eq!(world.held(first), 16_000);
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let job = world.open(d, 1);
        // Slots were asked back a while ago.
        world.now = world.now + Duration::from_secs(1);
        let began = std::time::Instant::now();
        let mut effects = Vec::new();
        let wanted = Demand { tasks: 1000, ..demand(job) };
        world.machine.step(world.now, Event::Driver(d, DriverEvent::Demand(wanted)), &mut effects);
        slowest = slowest.max(began.elapsed());
        assert!(!effects.is_empty(), "slots are asked back for it");
    }
    assert!(slowest < Duration::from_secs(1), "it took {slowest:?}");
}

#[test]
fn among_many_jobs_slots_are_asked_back_after_a_pause_and_never_forgotten() {
    let mut world = World::new();
    world.worker("a", &[64]);
    let d = world.driver();
    let first = world.open(d, 1);
    world.demand(d, first, 64);
    let jobs: Vec<JobId> = (0..40).map(|_| world.open(d, 1)).collect();
    let asked_back = |told: &[String]| told.iter().any(|line| line.contains("revoke"));
    assert!(asked_back(&world.demand(d, jobs[0], 1)), "nothing was asked back before");
    assert!(!asked_back(&world.demand(d, jobs[1], 1)), "41 jobs: a pause of 2 ms");
    world.now = world.now + Duration::from_millis(1);
    assert!(!asked_back(&world.step(Event::Tick)), "it is not over");
    world.now = world.now + Duration::from_millis(1);
    assert!(asked_back(&world.step(Event::Tick)), "now it is");
    world.now = world.now + Duration::from_secs(1);
    assert!(!asked_back(&world.step(Event::Tick)), "once is enough");
}

//! What users with tokens may do, and drivers that were launched.

use std::collections::BTreeSet;

use super::*;

fn user(name: &str, queues: Option<&[&str]>, is_admin: bool) -> Rights {
    let queues = queues.map(|queues| queues.iter().map(|&queue| queue.to_owned()).collect::<BTreeSet<_>>());
    Rights::User(User { name: name.to_owned(), queues, is_admin })
}

fn ana() -> Rights {
    user("ana", Some(&["etl", "adhoc"]), false)
}

fn ask(world: &mut World, rights: Rights, request: ClientRequest) -> Vec<String> {
    world.step(Event::Client(Ticket(1), rights, request))
}

fn submit(world: &mut World, rights: Rights, queue: &str) -> Vec<String> {
    let submission = Submission { queue: queue.to_owned(), user: "root".to_owned(), ..submission("q") };
    ask(world, rights, ClientRequest::Submit(submission))
}

fn greet(world: &mut World, rights: Rights) -> SessionId {
    let session = world.next_session();
    let hello = DriverEvent::Hello {
        release: "0.1.0".to_owned(),
        host: "laptop".to_owned(),
        user: "root".to_owned(),
        incarnation: format!("driver {}", session.0),
        rights,
    };
    world.driver_says(session, hello);
    session
}

#[test]
fn a_job_is_its_tokens_users_whoever_the_client_says_it_is() {
    let mut world = World::new();
    assert_eq!(submit(&mut world, ana(), "etl"), ["answer job1"]);
    assert_eq!(world.machine.job(JobId(1)).unwrap().user, "ana");
    let d = greet(&mut world, ana());
    world.driver_says(d, DriverEvent::OpenJob(OpenJob { queue: "adhoc".to_owned(), ..open_job() }));
    assert_eq!(world.machine.job(JobId(2)).unwrap().user, "ana");
}

#[test]
fn a_queue_that_is_not_the_tokens_is_refused_and_those_that_are_are_named() {
    let mut world = World::new();
    assert_eq!(submit(&mut world, ana(), "night"), ["answer: ana may have no jobs in the queue 'night'"]);
    assert_eq!(submit(&mut world, ana(), ""), ["answer: ana may have no jobs in the queue without a name"]);
    let d = greet(&mut world, ana());
    let told = world.driver_says(d, DriverEvent::OpenJob(open_job()));
    let reason = "ana may have no jobs in the queue without a name\n  hint: name one of these with --queue \
                  (client.queue): adhoc, etl";
    assert_eq!(told, ["d1 opened job1", "job1 ended", &format!("d1 cancel job1: {reason}")]);
    assert_eq!(submit(&mut world, user("bob", None, false), "night"), ["answer job2"]);
}

#[test]
fn only_its_user_or_an_administrator_cancels_a_job() {
    let mut world = World::new();
    submit(&mut world, ana(), "etl");
    submit(&mut world, ana(), "etl");
    let cancel = |job| ClientRequest::Cancel { job: JobId(job) };
    let bob = || user("bob", None, false);
    assert_eq!(ask(&mut world, bob(), cancel(1)), ["answer: job1 is a job of ana"]);
    assert_eq!(ask(&mut world, Rights::Launched(JobId(1)), cancel(1)), ["answer: job1 is a job of ana"]);
    assert_eq!(ask(&mut world, bob(), cancel(9))[0][..7], *"answer:");
    assert_eq!(ask(&mut world, ana(), cancel(1)), ["job1 ended", "answer job1"]);
    assert_eq!(ask(&mut world, user("ops", None, true), cancel(2)), ["job2 ended", "answer job2"]);
    assert_eq!(ask(&mut world, bob(), cancel(2)), ["answer: job2 is a job of ana"], "nor one that has ended");
}

#[test]
fn draining_is_an_administrators_business() {
    let mut world = World::new();
    world.worker("a", &[2]);
    world.worker("b", &[2]);
    let worker: firesteel_base::WorkerId = "a".parse().unwrap();
    let drain = || ClientRequest::Drain { worker: worker.clone(), deadline: None, force: false };
    assert_eq!(ask(&mut world, ana(), drain()), ["answer: that is for an administrator to do"]);
    let told = ask(&mut world, ana(), ClientRequest::Undrain { worker: worker.clone() });
    assert_eq!(told, ["answer: that is for an administrator to do"]);
    let told = ask(&mut world, user("ops", None, true), drain());
    assert!(told.contains(&"answer a".to_owned()), "{told:?}");
}

#[test]
fn a_launched_driver_has_its_job_and_no_other() {
    let mut world = World::new();
    world.worker("a", &[2]);
    submit(&mut world, ana(), "etl");
    submit(&mut world, ana(), "etl");
    let adopt = |job| OpenJob { submitted_job: Some(JobId(job)), ..open_job() };
    let d = greet(&mut world, Rights::Launched(JobId(1)));
    let refused = |job: u64| {
        let session = d.0;
        [
            format!("d{session} opened job{job}"),
            format!("d{session} cancel job{job}: this driver was not launched for that job"),
        ]
    };
    assert_eq!(world.driver_says(d, DriverEvent::OpenJob(adopt(2))), refused(2));
    assert_eq!(world.driver_says(d, DriverEvent::OpenJob(open_job())), refused(0));
    assert_eq!(world.driver_says(d, DriverEvent::OpenJob(adopt(1))), [format!("d{} opened job1", d.0)]);
    assert_eq!(world.machine.job(JobId(1)).unwrap().driver(), Some(d));
}

#[test]
fn a_users_driver_takes_up_neither_a_submitted_job_nor_one_of_another_user() {
    let mut world = World::new();
    world.worker("a", &[2]);
    submit(&mut world, ana(), "etl");
    let bob = greet(&mut world, user("bob", None, false));
    let adopt = OpenJob { submitted_job: Some(JobId(1)), ..open_job() };
    let told = world.driver_says(bob, DriverEvent::OpenJob(adopt));
    assert!(told[1].contains("not launched for that job"), "{told:?}");
    // It waits for its driver, which is not this one either.
    let resumed =
        |job| Resumed { job: JobId(job), leases: Vec::new(), gone: Vec::new(), only_to_close: true };
    let resume = |job| OpenJob { resumes: Some(resumed(job)), ..open_job() };
    world.driver_says(bob, DriverEvent::OpenJob(resume(1)));
    assert_eq!(world.machine.job(JobId(1)).unwrap().driver(), None);
    assert_eq!(world.state(JobId(1)), JobState::Queued);
}

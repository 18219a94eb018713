//! What becomes of a launched attempt.

use firesteel_base::Class;
use firesteel_executor::Limits;
use firesteel_protocol::v1;
use v1::driver_to_executor::Message as ToExecutor;
use v1::executor_to_driver::Message as FromExecutor;

use crate::driver::{Driver, attempt, attempt_of_job, eventually, launch, rows_of, run_shared, start};
use crate::plans::{endless, panicking, sql, three_rows};

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_commits_what_it_computed() {
    let subject = start(1, Limits::default());
    let mut driver = Driver::of(&subject).await;
    let stage = three_rows().await;
    driver.run(attempt(0), &stage);
    let finished = driver.hear_ran(attempt(0)).await;
    assert_eq!(finished.lanes.len(), 1);
    assert_eq!(finished.lanes[0].rows, 3);
    assert_eq!(finished.metrics.unwrap().rows_out, 3);
    assert_eq!(rows_of(&subject, attempt(0), 0, &stage).await, Ok(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lane_writes_its_own_output() {
    let subject = start(2, Limits::default());
    let mut driver = Driver::of(&subject).await;
    let stage =
        sql("select * from (values (1), (2)) as t(a) union all select * from (values (3)) as u(a)").await;
    assert_eq!(stage.partitions, 2);
    driver.run(attempt(0), &stage);
    let rows = |lane: &v1::LaneOutput| lane.rows;
    let finished = driver.hear_ran(attempt(0)).await;
    assert_eq!(finished.lanes.iter().map(rows).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(rows_of(&subject, attempt(0), 1, &stage).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_runs_again_for_the_next_attempt() {
    let subject = start(1, Limits::default());
    let mut driver = Driver::of(&subject).await;
    let stage = three_rows().await;
    for task in 0..3 {
        driver.run(attempt(task), &stage);
        assert_eq!(driver.hear_ran(attempt(task)).await.metrics.unwrap().rows_out, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_its_attempt_and_nothing_else() {
    let subject = start(1, Limits::default());
    let mut driver = Driver::of(&subject).await;
    run_shared(&subject, &driver, attempt(0), &panicking());
    driver.hear_started(attempt(0)).await;
    let failure = driver.hear_failed(attempt(0)).await;
    assert_eq!(failure.base_class(), Class::Transient);
    assert!(failure.message.contains("panicked: boom"), "{}", failure.message);
    driver.run(attempt_of_job(2), &three_rows().await);
    driver.hear_ran(attempt_of_job(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_attempt_gives_its_cores_to_the_next() {
    let subject = start(2, Limits::default());
    let mut driver = Driver::of(&subject).await;
    run_shared(&subject, &driver, attempt(0), &endless(2));
    driver.hear_started(attempt(0)).await;
    let next = attempt_of_job(2);
    driver.run(next, &three_rows().await);
    driver.cancel(attempt(0), "enough");
    let failure = driver.hear_failed(attempt(0)).await;
    assert_eq!(failure.base_class(), Class::Cancelled);
    assert_eq!(failure.message, "attempt job1/s0/p0/a0 was cancelled: enough");
    driver.hear_ran(next).await;
    assert_eq!(subject.executor.status().running_attempts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_attempt_can_be_cancelled() {
    let subject = start(1, Limits::default());
    let mut driver = Driver::of(&subject).await;
    run_shared(&subject, &driver, attempt(0), &endless(1));
    driver.hear_started(attempt(0)).await;
    driver.run(attempt_of_job(2), &three_rows().await);
    driver.cancel(attempt_of_job(2), "no longer needed");
    assert_eq!(driver.hear_failed(attempt_of_job(2)).await.base_class(), Class::Cancelled);
    assert_eq!(subject.executor.status().running_attempts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_launch_of_an_attempt_changes_nothing() {
    let subject = start(1, Limits::default());
    let mut driver = Driver::of(&subject).await;
    run_shared(&subject, &driver, attempt(0), &endless(1));
    driver.hear_started(attempt(0)).await;
    driver.say(ToExecutor::Launch(launch(attempt(0), &[9; 16], &endless(1))));
    driver.hear_started(attempt(0)).await;
    driver.cancel(attempt(0), "enough");
    driver.hear_failed(attempt(0)).await;

    let stage = three_rows().await;
    driver.run(attempt_of_job(2), &stage);
    let first = driver.hear_ran(attempt_of_job(2)).await;
    driver.run(attempt_of_job(2), &stage);
    assert_eq!(driver.hear_finished(attempt_of_job(2)).await, first);
    assert_eq!(rows_of(&subject, attempt_of_job(2), 0, &stage).await, Ok(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_attempt_reports_progress() {
    let limits = Limits { progress_interval: std::time::Duration::from_millis(10), ..Limits::default() };
    let subject = start(1, limits);
    let mut driver = Driver::of(&subject).await;
    run_shared(&subject, &driver, attempt(0), &endless(1));
    driver.hear_started(attempt(0)).await;
    let progress = driver.hear_progress().await;
    assert_eq!(progress.attempt, Some(attempt(0).into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn freed_blocks_are_gone() {
    let subject = start(1, Limits::default());
    let mut driver = Driver::of(&subject).await;
    let stage = three_rows().await;
    for job in 1..=3 {
        driver.run(attempt_of_job(job), &stage);
        driver.hear_ran(attempt_of_job(job)).await;
    }
    driver.say(ToExecutor::FreeAttempt(v1::FreeAttempt { attempt: Some(attempt_of_job(1).into()) }));
    driver.say(ToExecutor::FreeStage(v1::FreeStage { job: 2, stage: 0 }));
    driver.say(ToExecutor::FreeJob(v1::FreeJob { job: 3 }));
    driver.say(ToExecutor::Ping(v1::Ping {}));
    assert_eq!(driver.hear().await, FromExecutor::Pong(v1::Pong { running_attempts: 0 }));
    for job in 1..=3 {
        assert!(rows_of(&subject, attempt_of_job(job), 0, &stage).await.is_err());
    }
    assert_eq!(subject.executor.status().blocks.blocks, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_of_a_freed_job_stops() {
    let subject = start(1, Limits::default());
    let mut driver = Driver::of(&subject).await;
    run_shared(&subject, &driver, attempt(0), &endless(1));
    driver.hear_started(attempt(0)).await;
    driver.say(ToExecutor::FreeJob(v1::FreeJob { job: 1 }));
    driver.run(attempt_of_job(2), &three_rows().await);
    driver.hear_ran(attempt_of_job(2)).await;
    eventually("nothing runs", || subject.executor.status().running_attempts == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_attempts_and_streams_and_leaves_no_file() {
    let subject = start(1, Limits::default());
    let mut driver = Driver::of(&subject).await;
    run_shared(&subject, &driver, attempt(0), &endless(1));
    driver.hear_started(attempt(0)).await;
    let executor = std::sync::Arc::clone(&subject.executor);
    let ending = tokio::spawn(async move { executor.shutdown(std::time::Duration::from_secs(10)).await });
    assert_eq!(driver.hear_failed(attempt(0)).await.base_class(), Class::Transient);
    assert_eq!(driver.hear_or_end().await, None);
    ending.await.unwrap();
    assert_eq!(std::fs::read_dir(subject.scratch.path()).unwrap().count(), 0);
}

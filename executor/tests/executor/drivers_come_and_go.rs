//! What a driver leaves behind when its stream is cut.

use std::time::Duration;

use firesteel_base::Class;
use firesteel_engine::codec;
use firesteel_executor::Limits;
use firesteel_protocol::v1;
use v1::driver_to_executor::Message as ToExecutor;

use crate::driver::{Driver, attempt, attempt_of_job, eventually, launch, run_shared, start};
use crate::plans::{endless, three_rows};

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_gone_driver_had_is_freed() {
    let subject = start(2, Limits { session_grace: Duration::from_millis(1), ..Limits::default() });
    let mut driver = Driver::of(&subject).await;
    driver.run(attempt_of_job(2), &three_rows().await);
    driver.hear_ran(attempt_of_job(2)).await;
    run_shared(&subject, &driver, attempt(0), &endless(2));
    driver.hear_started(attempt(0)).await;
    assert!(subject.executor.status().blocks.blocks > 0);
    drop(driver);
    eventually("all is freed", || {
        let status = subject.executor.status();
        status.running_attempts == 0 && status.blocks.blocks == 0 && status.memory_used == 0
    })
    .await;
    let mut next = Driver::of(&subject).await;
    run_shared(&subject, &next, attempt_of_job(3), &endless(2));
    next.hear_started(attempt_of_job(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_comes_back_in_time_finds_its_attempts() {
    let subject = start(1, Limits { session_grace: Duration::from_secs(3600), ..Limits::default() });
    let mut driver = Driver::of(&subject).await;
    run_shared(&subject, &driver, attempt(0), &endless(1));
    driver.hear_started(attempt(0)).await;
    drop(driver);
    let mut again = Driver::of(&subject).await;
    again.say(ToExecutor::Launch(launch(attempt(0), &[9; 16], &endless(1))));
    again.hear_started(attempt(0)).await;
    again.cancel(attempt(0), "enough");
    assert_eq!(again.hear_failed(attempt(0)).await.base_class(), Class::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_driver_that_goes_takes_nothing_of_another() {
    let subject = start(2, Limits { session_grace: Duration::from_millis(1), ..Limits::default() });
    let mut stays = Driver::of(&subject).await;
    let mut goes = Driver::of(&subject).await;
    run_shared(&subject, &stays, attempt_of_job(1), &endless(1));
    stays.hear_started(attempt_of_job(1)).await;
    run_shared(&subject, &goes, attempt_of_job(2), &endless(1));
    goes.hear_started(attempt_of_job(2)).await;
    drop(goes);
    eventually("one attempt is left", || subject.executor.status().running_attempts == 1).await;
    stays.cancel(attempt_of_job(1), "enough");
    assert_eq!(stays.hear_failed(attempt_of_job(1)).await.base_class(), Class::Cancelled);
}

/// What was said by a stream that was cut may come after what its driver says by the next one.
#[tokio::test(flavor = "multi_thread")]
async fn the_stream_before_does_not_take_a_job_back() {
    let grace = Duration::from_millis(50);
    let subject = start(1, Limits { session_grace: grace, ..Limits::default() });
    let mut cut = Driver::launched(&subject, "one", 1).await;
    run_shared(&subject, &cut, attempt(0), &endless(1));
    cut.hear_started(attempt(0)).await;
    let mut next = Driver::launched(&subject, "one", 1).await;
    for stream in [&mut next, &mut cut] {
        stream.say(ToExecutor::Launch(launch(attempt(0), &[9; 16], &endless(1))));
        stream.hear_started(attempt(0)).await;
    }
    drop(cut);
    tokio::time::sleep(10 * grace).await;
    assert_eq!(subject.executor.status().running_attempts, 1);
    next.cancel(attempt(0), "enough");
    assert_eq!(next.hear_failed(attempt(0)).await.base_class(), Class::Cancelled);
}

/// The manager launches a job's driver once more when it has given up the first, which may still be there.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_driver_has_the_job_and_nothing_that_the_one_before_made() {
    let subject = start(2, Limits { session_grace: Duration::from_millis(1), ..Limits::default() });
    let mut first = Driver::launched(&subject, "first", 1).await;
    first.run(attempt(0), &three_rows().await);
    first.hear_ran(attempt(0)).await;
    run_shared(&subject, &first, attempt(1), &endless(1));
    first.hear_started(attempt(1)).await;
    let mut second = Driver::launched(&subject, "second", 2).await;
    // By the same key, it is not told what the first one made, but runs.
    let stage = three_rows().await;
    second.run(attempt(0), &stage);
    second.hear_ran(attempt(0)).await;
    eventually("the first one's attempt has ended", || subject.executor.status().running_attempts == 0).await;
    assert_eq!(subject.executor.status().blocks.blocks, 1);
    // What the first one says of the job is not heard any more.
    let digest = codec::digest(&codec::encode(&stage).unwrap());
    first.say(ToExecutor::Launch(launch(attempt(2), &digest, &stage)));
    let refused = first.hear_failed(attempt(2)).await;
    assert!(refused.message.contains("a later driver has the job"));
    first.say(ToExecutor::FreeStage(v1::FreeStage { job: 1, stage: 0 }));
    first.say(ToExecutor::FreeJob(v1::FreeJob { job: 1 }));
    first.say(ToExecutor::Ping(v1::Ping {}));
    assert!(matches!(first.hear().await, v1::executor_to_driver::Message::Pong(_)));
    drop(first);
    let again = Driver::launched(&subject, "first", 1).await;
    again.say(ToExecutor::Launch(launch(attempt(3), &digest, &stage)));
    drop(again);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(subject.executor.status().blocks.blocks, 1);
    second.say(ToExecutor::FreeJob(v1::FreeJob { job: 1 }));
    eventually("all is freed", || subject.executor.status().blocks.blocks == 0).await;
}

/// A manager that has forgotten its jobs gives their numbers to others.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_number_that_is_given_again_brings_nothing_of_the_job_before() {
    let subject = start(1, Limits { session_grace: Duration::from_secs(3600), ..Limits::default() });
    let stage = three_rows().await;
    let mut before = Driver::launched(&subject, "before", 0).await;
    before.run(attempt(0), &stage);
    before.hear_ran(attempt(0)).await;
    let mut after = Driver::launched(&subject, "after", 0).await;
    after.run(attempt(0), &stage);
    after.hear_ran(attempt(0)).await;
    before.run(attempt(0), &stage);
    let refused = before.hear_failed(attempt(0)).await;
    assert!(refused.message.contains("a later driver has the job"));
}

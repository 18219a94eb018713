//! What a driver leaves behind when its stream is cut.

use std::time::Duration;

use firesteel_base::Class;
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

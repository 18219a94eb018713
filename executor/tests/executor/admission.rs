//! Which launches are refused, and why.

use firesteel_base::{Class, Epoch};
use firesteel_engine::codec;
use firesteel_executor::Limits;
use firesteel_protocol::v1;
use v1::driver_to_executor::Message as ToExecutor;

use crate::driver::{Driver, attempt, attempt_of_job, launch, run_shared, start};
use crate::plans::{endless, three_rows};

#[tokio::test(flavor = "multi_thread")]
async fn more_attempts_than_may_wait_are_refused() {
    let subject = start(1, Limits { attempts_waiting_max: 1, ..Limits::default() });
    let mut driver = Driver::of(&subject).await;
    run_shared(&subject, &driver, attempt(0), &endless(1));
    driver.hear_started(attempt(0)).await;
    let stage = three_rows().await;
    driver.run(attempt_of_job(2), &stage);
    driver.run(attempt_of_job(3), &stage);
    let failure = driver.hear_failed(attempt_of_job(3)).await;
    assert_eq!(failure.base_class(), Class::Transient);
    assert!(failure.message.contains("1 attempts wait for cores already"), "{}", failure.message);
    driver.cancel(attempt(0), "enough");
    driver.hear_failed(attempt(0)).await;
    driver.hear_ran(attempt_of_job(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_lanes_than_cores_are_refused() {
    let subject = start(1, Limits::default());
    let mut driver = Driver::of(&subject).await;
    run_shared(&subject, &driver, attempt(0), &endless(2));
    let failure = driver.hear_failed(attempt(0)).await;
    assert_eq!(failure.base_class(), Class::Resources);
    assert!(failure.message.contains("it asks for 2 cores, the executor has 1"), "{}", failure.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_memory_than_there_is_is_refused() {
    let subject = start(1, Limits::default());
    let mut driver = Driver::of(&subject).await;
    let stage = three_rows().await;
    let plan = codec::encode(&stage).unwrap();
    let digest = codec::digest(&plan);
    driver.put(attempt(0).task.stage, plan, &digest);
    driver
        .say(ToExecutor::Launch(v1::Launch { memory_bytes: 1 << 40, ..launch(attempt(0), &digest, &stage) }));
    assert_eq!(driver.hear_failed(attempt(0)).await.base_class(), Class::Resources);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_not_what_its_digest_says_is_not_kept() {
    let subject = start(1, Limits::default());
    let mut driver = Driver::of(&subject).await;
    let stage = three_rows().await;
    let plan = codec::encode(&stage).unwrap();
    let digest = codec::digest(b"another plan");
    driver.put(attempt(0).task.stage, plan, &digest);
    driver.say(ToExecutor::Launch(launch(attempt(0), &digest, &stage)));
    let failure = driver.hear_failed(attempt(0)).await;
    assert_eq!(failure.base_class(), Class::Transient);
    assert!(failure.message.contains("its stage's plan is not here"), "{}", failure.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_cannot_be_decoded_fails_the_job() {
    let subject = start(1, Limits::default());
    let mut driver = Driver::of(&subject).await;
    let plan = bytes::Bytes::from_static(b"no plan at all");
    let digest = codec::digest(&plan);
    driver.put(attempt(0).task.stage, plan, &digest);
    driver.say(ToExecutor::Launch(launch(attempt(0), &digest, &three_rows().await)));
    driver.hear_started(attempt(0)).await;
    assert_eq!(driver.hear_failed(attempt(0)).await.base_class(), Class::User);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_of_another_epoch_is_refused() {
    let subject = start(1, Limits::default());
    let mut driver = Driver::of(&subject).await;
    let stage = three_rows().await;
    let plan = codec::encode(&stage).unwrap();
    let digest = codec::digest(&plan);
    driver.put(attempt(0).task.stage, plan, &digest);
    driver.say(ToExecutor::Launch(v1::Launch { epoch: Epoch(3).0, ..launch(attempt(0), &digest, &stage) }));
    let failure = driver.hear_failed(attempt(0)).await;
    assert_eq!(failure.base_class(), Class::Transient);
    assert!(failure.message.contains("it is in epoch e7, not e3"), "{}", failure.message);
}

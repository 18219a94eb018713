//! Who may attach, and what a new epoch fences off.

use std::time::Duration;

use firesteel_base::{ByteSize, Epoch};
use firesteel_executor::{Executor, Limits};
use tonic::Code;

use crate::driver::{
    Driver, EPOCH, attach, attempt, config, eventually, greeting, rows_of, run_shared, start,
};
use crate::plans::{endless, three_rows};

#[tokio::test(flavor = "multi_thread")]
async fn another_epoch_is_refused() {
    let subject = start(1, Limits { epoch_wait: Duration::ZERO, ..Limits::default() });
    for epoch in [Epoch(6), Epoch(8)] {
        let status = attach(&subject.executor, greeting(epoch)).await.err().unwrap();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains("is in epoch e7"), "{}", status.message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_knows_the_epoch_first_waits_for_it() {
    let scratch = tempfile::tempdir().unwrap();
    let config = config(1, ByteSize(64 << 20), Limits::default(), scratch.path().to_owned());
    let executor = Executor::start(config).unwrap();
    let attaching = tokio::spawn({
        let executor = executor.clone();
        async move { attach(&executor, greeting(EPOCH)).await }
    });
    tokio::task::yield_now().await;
    executor.set_epoch(EPOCH).unwrap();
    attaching.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_wire_version_is_refused() {
    let subject = start(1, Limits::default());
    let mut other = greeting(EPOCH);
    (other.wire_version, other.wire_newest) = (other.wire_newest + 1, 0);
    let status = attach(&subject.executor, other).await.err().unwrap();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("install the same release"), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_epoch_ends_what_was_before() {
    let subject = start(1, Limits::default());
    let mut driver = Driver::of(&subject).await;
    let stage = three_rows().await;
    driver.run(attempt(0), &stage);
    driver.hear_ran(attempt(0)).await;
    run_shared(&subject, &driver, attempt(1), &endless(1));
    driver.hear_started(attempt(1)).await;
    subject.executor.set_epoch(EPOCH.next()).unwrap();
    assert_eq!(driver.hear_or_end().await, None);
    eventually("nothing runs", || subject.executor.status().running_attempts == 0).await;
    assert!(rows_of(&subject, attempt(0), 0, &stage).await.is_err());
    assert!(subject.executor.set_epoch(EPOCH).is_err());
    assert_eq!(subject.executor.epoch(), Some(EPOCH.next()));
}

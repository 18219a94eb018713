//! Memory, and messages of size.

use std::sync::Arc;
use std::time::Duration;

use firesteel_base::{ByteSize, Class};
use firesteel_certs::Security;
use firesteel_engine::codec;
use firesteel_executor::{Limits, shell};
use firesteel_protocol::channel::{PLAN_BYTES_MAX, Server, connect};
use firesteel_protocol::v1;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use v1::driver_to_executor::Message as ToExecutor;
use v1::executor_client::ExecutorClient;
use v1::executor_to_driver::Message as FromExecutor;

use crate::driver::{Driver, EPOCH, attempt, greeting, launch, run_shared, start, start_with_memory};
use crate::plans::sql;

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_finds_no_memory_says_who_holds_it() {
    let subject = start_with_memory(1, ByteSize(32 << 20), Limits::default());
    let mut driver = Driver::of(&subject).await;
    // The rows of one key stay together, in memory.
    let series = "select value % 1 as v, value as n from generate_series(1, 4000000)";
    let stage =
        sql(&format!("select count(a.n + b.n) from ({series}) a join ({series}) b on a.v = b.v")).await;
    run_shared(&subject, &driver, attempt(0), &stage);
    driver.hear_started(attempt(0)).await;
    let failure = driver.hear_failed(attempt(0)).await;
    assert_eq!(failure.base_class(), Class::Resources, "{failure:?}");
    let text = failure.user_error().to_string();
    assert!(text.contains("32MiB"), "{text}");
}

/// Text that does not compress.
fn noise(bytes: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + u8::try_from(state % 75).unwrap())
    };
    (0..bytes).map(|_| next()).filter(|c| *c != '\'').collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_ten_megabytes_travels_by_grpc() {
    let subject = start(1, Limits::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let served = tokio::spawn(shell::serve(
        Arc::clone(&subject.executor),
        listener,
        Security::default(),
        std::future::pending(),
    ));

    let stage = sql(&format!("select '{}' as text", noise(12 << 20))).await;
    let plan = codec::encode(&stage).unwrap();
    assert!(plan.len() > 9 << 20, "the plan is only {} bytes", plan.len());
    let digest = codec::digest(&plan);

    let (outgoing, messages) = mpsc::unbounded_channel();
    let say = |message| outgoing.send(v1::DriverToExecutor { message: Some(message) }).unwrap();
    say(ToExecutor::Attach(greeting(EPOCH)));
    say(ToExecutor::PutStage(v1::PutStage {
        job: 1,
        stage: 0,
        digest: digest.to_vec().into(),
        plan,
        conf: std::collections::HashMap::new(),
    }));
    say(ToExecutor::Launch(launch(attempt(0), &digest, &stage)));
    let channel = connect(&Security::default(), Server::Executor, &address).await.unwrap();
    let mut client = ExecutorClient::new(channel).max_encoding_message_size(PLAN_BYTES_MAX);
    let mut reports = client.attach(UnboundedReceiverStream::new(messages)).await.unwrap().into_inner();
    let finished = loop {
        let report = tokio::time::timeout(Duration::from_secs(60), reports.next()).await.unwrap();
        match report.unwrap().unwrap().message.unwrap() {
            FromExecutor::Finished(finished) => break finished,
            FromExecutor::Failed(failed) => panic!("{failed:?}"),
            _ => {}
        }
    };
    assert_eq!(finished.metrics.unwrap().rows_out, 1);
    served.abort();
}

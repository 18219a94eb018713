//! Peers of the wire version before: what they said then, byte for byte, and what they are told.
//!
//! The files in `wire4` were recorded of release 0.1.0 with wire version 4: all that a worker and a client's driver said to a
//! manager, and were told by it, while a query ran. Names of hosts are others, and the worker's topology is left out. Each
//! message is preceded by its length, as protobuf has it.

use firesteel_base::version;
use prost::Message;

use super::*;

const WORKER: &[u8] = include_bytes!("wire4/worker.bin");
const DRIVER: &[u8] = include_bytes!("wire4/driver.bin");
const TO_WORKER: &[u8] = include_bytes!("wire4/to_worker.bin");
const TO_DRIVER: &[u8] = include_bytes!("wire4/to_driver.bin");

/// Reads what was recorded; written again it is the same, so that what is sent below is what was sent then.
fn recorded<M: Message + Default>(mut bytes: &[u8]) -> Vec<M> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let before = bytes;
        let message = M::decode_length_delimited(&mut bytes).unwrap();
        let read = &before[..before.len() - bytes.len()];
        assert_eq!(message.encode_length_delimited_to_vec(), read);
        messages.push(message);
    }
    messages
}

fn worker_messages() -> Vec<worker_to_manager::Message> {
    recorded::<v1::WorkerToManager>(WORKER).into_iter().map(|said| said.message.unwrap()).collect()
}

fn driver_messages() -> Vec<driver_to_manager::Message> {
    recorded::<v1::DriverToManager>(DRIVER).into_iter().map(|said| said.message.unwrap()).collect()
}

/// A worker of then, whose executor is up.
async fn old_worker(served: &Served) -> Worker {
    let mut said = worker_messages().into_iter();
    let Some(worker_to_manager::Message::Register(register)) = said.next() else { panic!("no registration") };
    assert_eq!((register.wire_version, register.wire_newest), (4, 0));
    let mut worker = served.worker(register).await.unwrap();
    let manager_to_worker::Message::Registered(registered) = worker.hear().await else { panic!("not taken") };
    assert_eq!(registered.wire_version, 4);
    for message in said.filter(|message| !matches!(message, worker_to_manager::Message::Leaving(_))) {
        worker.say(message).await;
    }
    let manager_to_worker::Message::ExecutorEpoch(_) = worker.hear().await else { panic!("no epoch") };
    worker
}

#[tokio::test]
async fn a_worker_and_a_driver_of_the_version_before_run_a_query() {
    let served = served(patient()).await;
    let _worker = old_worker(&served).await;
    let mut said = driver_messages().into_iter();
    let Some(driver_to_manager::Message::Hello(hello)) = said.next() else { panic!("no greeting") };
    assert_eq!((hello.wire_version, hello.wire_newest), (4, 0));
    let mut driver = served.driver(hello).await.unwrap();
    let manager_to_driver::Message::Welcome(welcome) = driver.hear().await else { panic!("no welcome") };
    assert_eq!(welcome.wire_version, 4);
    assert_eq!(welcome.cluster.unwrap().executors.len(), 1);
    let mut granted = None;
    for message in said {
        // What it gives back is what it was lent, whose number was another one then.
        let message = match (message, granted) {
            (driver_to_manager::Message::Release(release), Some(lease)) => {
                driver_to_manager::Message::Release(v1::ReleaseSlots { lease, ..release })
            }
            (other, _) => other,
        };
        let (asks, opens) = (
            matches!(message, driver_to_manager::Message::Demand(_)),
            matches!(message, driver_to_manager::Message::OpenJob(_)),
        );
        let message = first_job(message);
        driver.say(message).await;
        if opens {
            assert!(matches!(driver.hear().await, manager_to_driver::Message::JobOpened(_)));
        }
        if asks {
            let manager_to_driver::Message::Grant(grant) = driver.hear().await else { panic!("no grant") };
            granted = Some(grant.lease);
        }
    }
    assert!(matches!(driver.hear().await, manager_to_driver::Message::JobClosed(_)));
    let mut client = served.client().await;
    let ended = client.wait_job(wait(1)).await.unwrap().into_inner();
    assert_eq!((ended.state(), ended.result_rows, ended.slots_held), (v1::JobState::Succeeded, 5, 0));
}

/// It was the second job of its manager, and is the first of this one.
fn first_job(message: driver_to_manager::Message) -> driver_to_manager::Message {
    use driver_to_manager::Message as Said;
    match message {
        Said::Demand(demand) => Said::Demand(v1::StageDemand { job: 1, ..demand }),
        Said::CloseJob(close) => Said::CloseJob(v1::CloseJob { job: 1, ..close }),
        other => other,
    }
}

/// It would not understand that it is drained; what it does understand is said.
#[tokio::test]
async fn what_is_new_is_not_said_to_a_peer_of_the_version_before() {
    let served = served(patient()).await;
    let mut old = old_worker(&served).await;
    let (mut new, _) = served.worker_up("new", 2).await;
    let mut client = served.client().await;
    let drain = |worker: &str| v1::DrainNodeRequest {
        wire_version: version::WIRE,
        worker: worker.to_owned(),
        ..Default::default()
    };
    let refused = client.drain_node(drain("w0")).await.unwrap_err();
    assert!(refused.message().contains("'w0' is of release 0.1.0, which cannot be drained"), "{refused}");
    let mut driver =
        served.driver(v1::DriverHello { wire_version: 4, wire_newest: 0, ..hello() }).await.unwrap();
    driver.hear().await;
    let job = driver.open().await;
    driver.say(demand(job, 3)).await;
    let mut leases = Vec::new();
    while leases.len() < 2 {
        let manager_to_driver::Message::Grant(grant) = driver.hear().await else { panic!("no grant") };
        leases.push((grant.executor.unwrap().id.unwrap().worker, grant.lease, grant.tasks));
    }
    client.drain_node(drain("new")).await.unwrap();
    assert!(matches!(new.hear().await, manager_to_worker::Message::Drain(_)));
    // In words that it knows: the executors, and that slots are wanted back.
    assert!(matches!(driver.hear().await, manager_to_driver::Message::ClusterChanged(_)));
    let manager_to_driver::Message::Revoke(revoke) = driver.hear().await else {
        panic!("nothing is asked back")
    };
    let of_new = leases.iter().find(|(worker, ..)| worker == "new").unwrap();
    assert_eq!((revoke.lease, revoke.tasks), (of_new.1, of_new.2));
    drop(driver);
    served.stop.send(()).unwrap();
    // Nothing else was said to it.
    assert!(soon("the end", old.told.message()).await.is_err());
}

/// What a manager of then says names no version; whoever hears it speaks the one of then.
#[test]
fn what_a_manager_of_the_version_before_says_is_understood() {
    let to_worker: Vec<v1::ManagerToWorker> = recorded(TO_WORKER);
    let Some(manager_to_worker::Message::Registered(registered)) = &to_worker[0].message else {
        panic!("{to_worker:?}")
    };
    assert_eq!(version::agreed(registered.wire_version), 4);
    let to_driver: Vec<v1::ManagerToDriver> = recorded(TO_DRIVER);
    let Some(manager_to_driver::Message::Welcome(welcome)) = &to_driver[0].message else {
        panic!("{to_driver:?}")
    };
    assert_eq!(version::agreed(welcome.wire_version), 4);
    let cluster = welcome.cluster.as_ref().unwrap();
    assert!(cluster.draining.is_empty() && cluster.executors.iter().all(|shape| shape.wire_version == 0));
}

/// A peer that speaks two neighbouring versions greets in words that both of them understand.
#[tokio::test]
async fn the_newest_version_that_both_speak_is_spoken() {
    let served = served(patient()).await;
    for (oldest, newest, spoken) in [(4, 0, 4), (4, 5, 5), (5, 0, 5), (5, 6, 6), (4, 9, 6)] {
        let hello = v1::DriverHello { wire_version: oldest, wire_newest: newest, ..hello() };
        let mut driver = served.driver(hello).await.unwrap();
        let manager_to_driver::Message::Welcome(welcome) = driver.hear().await else { panic!("no welcome") };
        assert_eq!(welcome.wire_version, spoken, "{oldest} to {newest}");
    }
    for (oldest, newest) in [(3, 0), (7, 8), (0, 0)] {
        let hello = v1::DriverHello { wire_version: oldest, wire_newest: newest, ..hello() };
        let refused = served.driver(hello).await.err().unwrap();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("versions 4 to 6 are spoken here"), "{refused}");
    }
}

//! The wire's messages, each by itself: an input is a byte that chooses the message, and its bytes.

use std::fmt::Debug;

use firesteel_base::{AttemptKey, ExecutorId};
use firesteel_protocol::v1;
use prost::Message;

use super::change::{Numbers, change_bytes};

/// The largest input that is changed: what is larger takes longer and finds no more.
const INPUT_BYTES_MAX: usize = 4096;
/// Messages that are read.
const KINDS: u8 = 16;

/// Reads the message of an input, and what of it has a type of its own; tells whether it is one.
///
/// # Panics
/// When a reader is at fault.
pub fn run(input: &[u8]) -> bool {
    let Some((&kind, bytes)) = input.split_first() else { return false };
    match kind % KINDS {
        0 => read::<v1::WorkerToManager>(bytes).is_some(),
        1 => read::<v1::ManagerToWorker>(bytes).is_some(),
        2 => read::<v1::DriverToManager>(bytes).is_some(),
        3 => read::<v1::ManagerToDriver>(bytes).is_some(),
        4 => read::<v1::DriverToExecutor>(bytes).is_some(),
        5 => read::<v1::ExecutorToDriver>(bytes).is_some(),
        6 => read::<v1::MemberCall>(bytes).is_some(),
        7 => read::<v1::MemberView>(bytes).is_some(),
        8 => read::<v1::SubmitRequest>(bytes).is_some(),
        9 => read::<v1::ListJobsReply>(bytes).is_some(),
        10 => read::<v1::ListNodesReply>(bytes).is_some(),
        11 => read::<v1::JobInfo>(bytes).is_some(),
        12 => read::<v1::DrainNodeRequest>(bytes).is_some(),
        13 => read::<v1::Failure>(bytes).is_some_and(|failure| is_told_again(&failure)),
        14 => read::<v1::AttemptKey>(bytes).is_some_and(|key| {
            assert_eq!(v1::AttemptKey::from(AttemptKey::from(&key)), key);
            true
        }),
        _ => read::<v1::ExecutorId>(bytes).is_some_and(|id| is_executor(&id)),
    }
}

/// The message, which is said as it was read.
fn read<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let said = message.encode_to_vec();
    assert_eq!(said.len(), message.encoded_len());
    let again = M::decode(said.as_slice()).expect("what was read can be said");
    // A number that is none is not equal to itself; no message has one that may not be.
    assert_eq!(again, message);
    Some(message)
}

fn is_told_again(failure: &v1::Failure) -> bool {
    let (class, error) = (failure.base_class(), failure.user_error());
    let again = v1::Failure::of(class, error.clone());
    assert_eq!((again.base_class(), again.user_error()), (class, error));
    true
}

fn is_executor(id: &v1::ExecutorId) -> bool {
    let Ok(read) = ExecutorId::try_from(id) else { return false };
    assert_eq!(v1::ExecutorId::from(&read), *id);
    assert_eq!(read.to_string().parse(), Ok(read));
    true
}

/// Changes an input, the same way for the same seed.
pub fn change(input: &mut Vec<u8>, seed: u64) {
    let n = &mut Numbers::new(seed);
    if input.len() < 2 || input.len() > INPUT_BYTES_MAX || n.below(32) == 0 {
        *input = valid(n.next());
        return;
    }
    for _ in 0..=n.below(4) {
        change_bytes(input, n);
    }
}

/// An input that holds a message.
#[must_use]
pub fn valid(seed: u64) -> Vec<u8> {
    let n = &mut Numbers::new(seed);
    let kind = n.below(usize::from(KINDS)) as u8;
    let said = match kind {
        0 => super::sessions::worker_says(n).encode_to_vec(),
        2 => super::sessions::driver_says(n).encode_to_vec(),
        6 => v1::MemberCall {
            members: "a:1,b:1".to_owned(),
            to: "a:1".to_owned(),
            ..v1::MemberCall::default()
        }
        .encode_to_vec(),
        13 => super::sessions::failure(n).encode_to_vec(),
        14 => v1::AttemptKey {
            job: n.number(),
            stage: n.number() as u32,
            task: n.number() as u32,
            attempt: n.number() as u32,
        }
        .encode_to_vec(),
        15 => super::sessions::executor(n).encode_to_vec(),
        _ => Vec::new(),
    };
    [&[kind][..], &said].concat()
}

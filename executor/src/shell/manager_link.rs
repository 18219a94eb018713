//! A worker's session with the manager: made, kept, and made again when it is lost.

use std::time::{Duration, Instant};

use firesteel_base::{UserError, version};
use firesteel_protocol::channel::{STEERING_BYTES_MAX, user_error};
use firesteel_protocol::managers::Managers;
use firesteel_protocol::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use v1::manager_client::ManagerClient;
use v1::manager_to_worker::Message as FromManager;
use v1::worker_to_manager::Message as ToManager;

use crate::worker::Event;

/// What happens to the session.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// The manager took this worker; what it must hear goes into `outgoing`, and dropping that ends the session.
    Registered {
        outgoing: mpsc::Sender<v1::WorkerToManager>,
        heartbeat: Duration,
        release: String,
        wire: u32,
    },
    /// The manager wants something.
    Command(FromManager),
    /// There is no session. It is made again without being asked. Told once for each time it is lost.
    Lost(UserError),
    /// The manager does not take this worker. The end.
    Refused(UserError),
}

/// Messages under way to the manager before it counts as stuck.
const OUTGOING_MAX: usize = 1024;
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long of several managers one that leads is looked for, before it is told that there is none.
const FIND_MAX: Duration = Duration::from_secs(5);
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Keeps a session with the manager that leads, for as long as anybody listens. An id that
/// is in use is the end when it still is after `in_use_max`.
pub(crate) async fn keep(
    managers: Managers,
    registration: v1::RegisterWorker,
    in_use_max: Duration,
    events: mpsc::Sender<Event>,
) {
    let mut retry = RETRY_FIRST;
    let mut told_lost = false;
    let mut in_use_since = None;
    let mut heard = Heard::default();
    while !events.is_closed() {
        heard.registered = false;
        let end = session(&managers, &registration, &events, &mut heard).await;
        if heard.registered {
            (retry, told_lost, in_use_since) = (RETRY_FIRST, false, None);
        }
        let event = match end {
            End::InUse(fault) => {
                let since = *in_use_since.get_or_insert_with(Instant::now);
                if since.elapsed() < in_use_max { LinkEvent::Lost(fault) } else { LinkEvent::Refused(fault) }
            }
            End::Refused(fault) => LinkEvent::Refused(fault),
            End::Lost(fault) => LinkEvent::Lost(fault),
        };
        let refused = matches!(event, LinkEvent::Refused(_));
        if !told_lost || refused {
            tell(&events, event).await;
            told_lost = true;
        }
        if refused {
            return;
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(RETRY_MAX);
    }
}

async fn tell(events: &mpsc::Sender<Event>, event: LinkEvent) {
    // Nobody listens any more when the worker ends.
    let _ = events.send(Event::Link(event)).await;
}

/// What was heard of managers.
#[derive(Default)]
struct Heard {
    /// The latest run.
    run: u64,
    /// Whether the present session, or the last one, came about.
    registered: bool,
}

enum End {
    Lost(UserError),
    /// The manager knows a live worker of this id, or believes that it does.
    InUse(UserError),
    Refused(UserError),
}

/// Of several managers one that has been replaced may not know it yet: what is of an earlier run than the latest that was heard
/// is not listened to.
async fn session(
    managers: &Managers,
    registration: &v1::RegisterWorker,
    events: &mpsc::Sender<Event>,
    heard: &mut Heard,
) -> End {
    let (manager, outgoing, mut commands) = match open(managers, registration).await {
        Ok(open) => open,
        Err(end) => return end,
    };
    let ended = |status: Status| end(managers, &manager, &status);
    let first = tokio::time::timeout(REGISTER_TIMEOUT, commands.message()).await;
    match first.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer to the registration"))) {
        Ok(Some(v1::ManagerToWorker { message: Some(FromManager::Registered(answer)) }))
            if managers.are_several() && answer.run < heard.run =>
        {
            return End::Lost(UserError::new(format!(
                "the manager at {manager} has been replaced by another"
            )));
        }
        Ok(Some(v1::ManagerToWorker { message: Some(FromManager::Registered(answer)) })) => {
            *heard = Heard { run: answer.run, registered: true };
            let heartbeat = Duration::from_millis(answer.heartbeat_ms.max(1));
            let (release, wire) = (answer.manager_release, version::agreed(answer.wire_version));
            tell(events, LinkEvent::Registered { outgoing, heartbeat, release, wire }).await;
        }
        Ok(_) => {
            return End::Lost(UserError::new(format!(
                "the manager at {manager} did not register this worker"
            )));
        }
        Err(status) => return ended(status),
    }
    loop {
        match commands.message().await {
            Ok(Some(v1::ManagerToWorker { message: Some(command) })) => {
                tell(events, LinkEvent::Command(command)).await
            }
            Ok(Some(_)) => {
                tracing::warn!("ignored a command of the manager of a kind unknown to this release")
            }
            Ok(None) => {
                return End::Lost(UserError::new(format!("the manager at {manager} ended the session")));
            }
            Err(status) => return ended(status),
        }
    }
}

/// The manager's address, and both ways of a session with it.
type Open = (String, mpsc::Sender<v1::WorkerToManager>, Streaming<v1::ManagerToWorker>);

async fn open(managers: &Managers, registration: &v1::RegisterWorker) -> Result<Open, End> {
    let (manager, channel) = managers.connect(FIND_MAX).await.map_err(End::Lost)?;
    let (outgoing, messages) = mpsc::channel(OUTGOING_MAX);
    let register = v1::WorkerToManager { message: Some(ToManager::Register(registration.clone())) };
    outgoing.try_send(register).expect("a new channel has room");
    let mut client = ManagerClient::new(channel).max_decoding_message_size(STEERING_BYTES_MAX);
    let session = client.worker_session(ReceiverStream::new(messages));
    let answer = tokio::time::timeout(REGISTER_TIMEOUT, session)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer to the registration")));
    match answer {
        Ok(commands) => Ok((manager, outgoing, commands.into_inner())),
        Err(status) => Err(end(managers, &manager, &status)),
    }
}

/// A worker that is refused for what it is will be refused again; everything else may pass.
fn end(managers: &Managers, manager: &str, status: &Status) -> End {
    managers.learn(status);
    let fault = user_error("manager", manager, status);
    match status.code() {
        Code::AlreadyExists => {
            End::InUse(fault.hint("give this worker another id with --id, or stop the other one"))
        }
        Code::FailedPrecondition | Code::InvalidArgument | Code::PermissionDenied | Code::Unimplemented => {
            End::Refused(fault)
        }
        _ => End::Lost(fault),
    }
}

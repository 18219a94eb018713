use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures::FutureExt;

use super::*;
use crate::memory::MemoryBinding;
use crate::pin;

/// Longer than any of these tests takes on a busy machine: what does not come by then is a failure.
const PATIENCE: Duration = Duration::from_secs(60);
const BOTH: [LoopKind; 2] = [LoopKind::Tokio, LoopKind::TokioUring];

fn config(kind: LoopKind, cpu: u32) -> CoreThreadConfig {
    CoreThreadConfig { name: format!("test-core{cpu}"), cpu: Some(cpu), numa_node: None, kind }
}

fn start(kind: LoopKind) -> CoreThread {
    CoreThread::start(config(kind, pin::allowed_cpus()[0])).unwrap()
}

/// Runs `work` on the core and waits for what it gives.
fn on_core<T: Send + 'static>(core: &CoreThread, work: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let send = async move { sender.send(work.await).unwrap() };
    core.handle().spawn(send.boxed()).unwrap();
    receiver.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn work_runs_on_the_pinned_thread_and_what_it_spawns_stays_there() {
    let cpu = *pin::allowed_cpus().last().unwrap();
    for kind in BOTH {
        let core = CoreThread::start(config(kind, cpu)).unwrap();
        assert_eq!((core.pinned_to(), core.kind()), (&[cpu][..], kind));
        let here = || (std::thread::current().name().map(str::to_owned), pin::allowed_cpus());
        let expected = (Some(format!("test-core{cpu}")), vec![cpu]);
        assert_eq!(on_core(&core, async move { here() }), expected);
        assert_eq!(
            on_core(&core, async move { tokio::spawn(async move { here() }).await.unwrap() }),
            expected
        );
        assert_eq!(core.stop(PATIENCE), Ok(Stopped { aborted: 0 }));
    }
}

#[test]
fn memory_binding_is_reported() {
    let node = crate::memory::online_nodes()[0];
    let core =
        CoreThread::start(CoreThreadConfig { numa_node: Some(node), ..config(LoopKind::Tokio, 0) }).unwrap();
    match core.memory() {
        MemoryBinding::Bound(nodes) => assert_eq!(nodes, &[node]),
        MemoryBinding::Skipped { reason } => assert!(reason.contains("one NUMA node"), "{reason}"),
    }
    core.stop(PATIENCE).unwrap();
}

#[test]
fn a_ring_is_in_the_uring_loop() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "spark").unwrap();
    let path = file.path().to_owned();
    let core = start(LoopKind::TokioUring);
    let (sender, receiver) = mpsc::channel();
    let read = move || async move {
        let file = tokio_uring::fs::File::open(path).await.unwrap();
        let (read, buffer) = file.read_at(Vec::with_capacity(16), 0).await;
        file.close().await.unwrap();
        sender.send((read.unwrap(), buffer)).unwrap();
    };
    core.handle().spawn_with(read).unwrap();
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), (5, b"spark".to_vec()));
    core.stop(PATIENCE).unwrap();
}

#[test]
fn what_cannot_leave_its_thread_is_made_there() {
    for kind in BOTH {
        let core = start(kind);
        let (sender, receiver) = mpsc::channel();
        let make = move || {
            let shared = std::rc::Rc::new(7);
            async move {
                let spawned = tokio::task::spawn_local({
                    let shared = std::rc::Rc::clone(&shared);
                    async move { *shared + 1 }
                });
                sender.send(*shared + spawned.await.unwrap()).unwrap();
            }
        };
        core.handle().spawn_with(make).unwrap();
        assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), 15);
        let maker = || -> std::future::Ready<()> { panic!("of a test, in the making") };
        core.handle().spawn_with(maker).unwrap();
        assert_eq!(on_core(&core, async { 7 }), 7);
        core.stop(PATIENCE).unwrap();
    }
}

#[test]
fn a_panic_ends_its_future_and_nothing_else() {
    for kind in BOTH {
        let core = start(kind);
        core.handle().spawn(async { panic!("of a test, to be contained") }.boxed()).unwrap();
        assert_eq!(on_core(&core, async { 7 }), 7);
        let handle = core.handle();
        assert_eq!(handle.usage().panicked, 1);
        core.stop(PATIENCE).unwrap();
        let usage = handle.usage();
        assert_eq!((usage.queued, usage.running, usage.ended, usage.panicked), (0, 0, 2, 1));
    }
}

#[test]
fn a_blocked_core_does_not_hold_up_another() {
    for kind in BOTH {
        let (blocked, free) = (start(kind), start(kind));
        let (release, released) = mpsc::channel::<()>();
        let (entered, has_entered) = mpsc::channel();
        let block = async move {
            entered.send(()).unwrap();
            released.recv().unwrap();
        };
        blocked.handle().spawn(block.boxed()).unwrap();
        has_entered.recv_timeout(PATIENCE).unwrap();
        assert_eq!(on_core(&free, async { 7 }), 7);
        assert_eq!(blocked.handle().usage().running, 1);
        release.send(()).unwrap();
        for outcome in stop_all(vec![blocked, free], PATIENCE) {
            assert_eq!(outcome, Ok(Stopped { aborted: 0 }));
        }
    }
}

#[test]
fn what_is_queued_before_the_stop_is_run() {
    for kind in BOTH {
        let core = start(kind);
        let ran: Vec<Arc<AtomicBool>> = (0..100).map(|_| Arc::default()).collect();
        for flag in &ran {
            let flag = Arc::clone(flag);
            let work = async move {
                tokio::task::yield_now().await;
                flag.store(true, Ordering::SeqCst);
            };
            core.handle().spawn(work.boxed()).unwrap();
        }
        let handle = core.handle();
        assert_eq!(core.stop(PATIENCE), Ok(Stopped { aborted: 0 }));
        assert!(ran.iter().all(|flag| flag.load(Ordering::SeqCst)));
        let refused = handle.spawn(async {}.boxed()).unwrap_err();
        assert!(refused.to_string().contains(handle.name()), "{refused}");
    }
}

/// Says so when it is dropped.
struct Witness(mpsc::Sender<()>);

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn never_ending() -> (futures::future::BoxFuture<'static, ()>, mpsc::Receiver<()>) {
    let (dropped, is_dropped) = mpsc::channel();
    let witness = Witness(dropped);
    let work = async move {
        let _witness = witness;
        futures::future::pending::<()>().await;
    };
    (work.boxed(), is_dropped)
}

#[test]
fn a_future_that_never_ends_is_aborted_at_the_deadline() {
    for kind in BOTH {
        let core = start(kind);
        let (work, dropped) = never_ending();
        core.handle().spawn(work).unwrap();
        assert_eq!(core.stop(Duration::from_millis(10)), Ok(Stopped { aborted: 1 }));
        dropped.recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn what_a_future_spawned_ends_with_the_core() {
    for kind in BOTH {
        let core = start(kind);
        let (work, dropped) = never_ending();
        on_core(&core, async move { drop(tokio::spawn(work)) });
        core.stop(Duration::ZERO).unwrap();
        dropped.recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn a_dropped_core_thread_aborts_its_futures() {
    for kind in BOTH {
        let core = start(kind);
        let (work, dropped) = never_ending();
        core.handle().spawn(work).unwrap();
        drop(core);
        dropped.recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn a_future_that_does_not_yield_is_reported() {
    let core = start(LoopKind::Tokio);
    let (release, released) = mpsc::channel::<()>();
    let (entered, has_entered) = mpsc::channel();
    let block = async move {
        entered.send(()).unwrap();
        let _ = released.recv();
    };
    core.handle().spawn(block.boxed()).unwrap();
    has_entered.recv_timeout(PATIENCE).unwrap();
    let name = core.handle().name().to_owned();
    assert_eq!(core.stop(Duration::ZERO), Err(CoreError::Stuck { name, running: 1 }));
    drop(release);
}

#[test]
fn a_cpu_that_is_not_there_is_a_start_error() {
    let fault = CoreThread::start(config(LoopKind::Tokio, 1023)).unwrap_err();
    assert!(matches!(&fault, CoreError::Pin { name, .. } if name == "test-core1023"), "{fault}");
    let told = firesteel_base::UserError::from(fault);
    assert!(told.hint.unwrap().contains("cpuset"));
}

#[test]
fn the_best_loop_says_why() {
    let choice = LoopKind::best();
    let ring = crate::ring::usable().is_ok();
    assert_eq!(choice.kind, if ring { LoopKind::TokioUring } else { LoopKind::Tokio });
    assert!(choice.reason.contains("io_uring"), "{}", choice.reason);
}

#[test]
fn names_of_loops_read_back() {
    for kind in BOTH {
        assert_eq!(kind.to_string().parse(), Ok(kind));
        assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
    }
    assert!("glommio".parse::<LoopKind>().unwrap_err().to_string().contains("'tokio-uring'"));
}

//! The core loops side by side: what it costs to hand work to a core, and to run many small futures on it.

use std::sync::mpsc;
use std::time::Duration;

use firesteel_hw::core_loop::{CoreThread, CoreThreadConfig, LoopKind};
use firesteel_hw::pin;
use firesteel_micro::{Bench, Digest, Throughput, run};
use futures::FutureExt;

const KINDS: [LoopKind; 2] = [LoopKind::Tokio, LoopKind::TokioUring];
const YIELDS: u64 = 10;

/// On the last CPU, so that the thread that measures has another where there are two.
fn start(kind: LoopKind) -> CoreThread {
    let cpu = pin::allowed_cpus().last().copied();
    let config = CoreThreadConfig { name: format!("bench-{kind}"), cpu, numa_node: None, kind };
    CoreThread::start(config).expect("this machine has the loop")
}

/// What `work` comes to on the core.
fn on_core(core: &CoreThread, work: impl Future<Output = u64> + Send + 'static) -> u64 {
    let (done, is_done) = mpsc::channel();
    let told = async move { done.send(work.await).expect("it is waited for") };
    core.handle().spawn(told.boxed()).expect("the core runs");
    is_done.recv().expect("the core answers")
}

/// Runs futures that yield to each other; how often they did.
async fn many_futures(count: u64) -> u64 {
    let futures = (0..count).map(|_| {
        tokio::spawn(async {
            let mut yields = 0;
            while yields < YIELDS {
                tokio::task::yield_now().await;
                yields += 1;
            }
            yields
        })
    });
    let mut yields = 0;
    for future in futures.collect::<Vec<_>>() {
        yields += future.await.expect("it does not panic");
    }
    yields
}

fn hash(number: &u64, digest: &mut Digest) {
    digest.number(*number);
}

fn core_loops(bench: &mut Bench) {
    let futures = bench.size(1_000, 10);
    for kind in KINDS {
        let core = start(kind);
        let mut group = bench.group("hand_over_and_back", Throughput::Elements(1));
        group.bench(kind.name(), || on_core(&core, async { 1 }), hash);
        drop(group);

        let mut group = bench.group("futures_that_yield", Throughput::Elements(futures * YIELDS));
        group.bench(kind.name(), || on_core(&core, many_futures(futures)), hash);
        drop(group);
        core.stop(Duration::from_secs(1)).expect("it yields");
    }
}

fn main() {
    run(include_str!("core_loop.hashes"), &[core_loops]);
}

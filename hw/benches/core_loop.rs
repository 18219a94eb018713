//! The core loops side by side: what it costs to hand work to a core, and to run many small futures on it.
#![allow(missing_docs)]

use std::sync::mpsc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use firesteel_hw::core_loop::{CoreThread, CoreThreadConfig, LoopKind};
use firesteel_hw::pin;
use futures::FutureExt;

const KINDS: [LoopKind; 2] = [LoopKind::Tokio, LoopKind::TokioUring];
const FUTURES: u64 = 1_000;
const YIELDS: u64 = 10;

/// On the last CPU, so that the thread that measures has another where there are two.
fn start(kind: LoopKind) -> CoreThread {
    let cpu = pin::allowed_cpus().last().copied();
    let config = CoreThreadConfig { name: format!("bench-{kind}"), cpu, numa_node: None, kind };
    CoreThread::start(config).expect("this machine has the loop")
}

fn on_core(core: &CoreThread, work: impl Future<Output = ()> + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let told = async move {
        work.await;
        done.send(()).expect("it is waited for");
    };
    core.handle().spawn(told.boxed()).expect("the core runs");
    is_done.recv().expect("the core answers");
}

async fn many_futures() {
    let futures = (0..FUTURES).map(|_| {
        tokio::spawn(async {
            for _ in 0..YIELDS {
                tokio::task::yield_now().await;
            }
        })
    });
    for future in futures.collect::<Vec<_>>() {
        future.await.expect("it does not panic");
    }
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hand_over_and_back");
    for kind in KINDS {
        let core = start(kind);
        group.bench_function(kind.name(), |b| b.iter(|| on_core(&core, async {})));
        core.stop(Duration::from_secs(1)).expect("it yields");
    }
    group.finish();

    let mut group = criterion.benchmark_group("yields_of_1000_futures");
    group.throughput(Throughput::Elements(FUTURES * YIELDS));
    for kind in KINDS {
        let core = start(kind);
        group.bench_function(kind.name(), |b| b.iter(|| on_core(&core, many_futures())));
        core.stop(Duration::from_secs(1)).expect("it yields");
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);

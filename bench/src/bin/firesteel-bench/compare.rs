//! One run over all queries and all peers.

use anyhow::{Context, bail, ensure};
use firesteel_bench::queries::{Query, TPCH, tpch};
use firesteel_bench::{Format, Manifest};
use firesteel_engine::datafusion::DATAFUSION_VERSION;

use crate::CompareArgs;
use crate::cluster::LocalCluster;
use crate::latency;
use crate::peers::Peer;
use crate::report::{QueryTimes, Report};
use crate::timing::{Times, timed};

/// Runs everything that `args` ask for.
pub async fn run(args: &CompareArgs) -> anyhow::Result<Report> {
    let program = args.program()?;
    let manifest = manifest(args)?;
    let queries = queries(args)?;
    let started = match &args.manager {
        Some(_) => None,
        None => Some(LocalCluster::start(&program, args.cores)?),
    };
    let manager =
        started.as_ref().map_or_else(|| args.manager.clone().unwrap_or_default(), LocalCluster::manager);
    let peers = [
        Peer::datafusion(&args.data, args.cores).await?,
        Peer::local(&args.data, args.cores).await?,
        Peer::cluster(&args.data, &manager).await?,
    ];
    let mut times = Vec::new();
    for query in &queries {
        times.push(run_query(query, &peers, args.iterations).await?);
    }
    let latency = latency::measure(&program, &args.data, &manager, &peers[2], args.iterations).await?;
    for peer in peers {
        peer.close().await;
    }
    if let Some(cluster) = started {
        cluster.stop()?;
    }
    Ok(Report {
        release: firesteel_base::version::RELEASE.to_owned(),
        datafusion: DATAFUSION_VERSION.to_owned(),
        machine: machine(),
        cores: args.cores,
        iterations: args.iterations,
        data: manifest.recipe,
        queries: times,
        latency,
    })
}

/// All peers by turns, each first as often as any other, so that what disturbs the machine disturbs all.
async fn run_query(query: &Query, peers: &[Peer; 3], iterations: u32) -> anyhow::Result<QueryTimes> {
    let mut times: [Times; 3] = Default::default();
    let mut rows = [0; 3];
    for round in 0..=iterations as usize {
        for turn in 0..peers.len() {
            let which = (round + turn) % peers.len();
            let (took, answer) = timed(peers[which].run(query.sql)).await;
            rows[which] = answer.with_context(|| format!("{} on {}", query.name, peers[which].name()))?;
            // The first round warms up.
            if round > 0 {
                times[which].add(took);
            }
        }
    }
    ensure!(rows.iter().all(|&n| n == rows[0]), "{}: the answers have {rows:?} rows", query.name);
    let [datafusion, local, cluster] = times;
    eprintln!(
        "{}: {} / {} / {} ms",
        query.name,
        datafusion.median_ms(),
        local.median_ms(),
        cluster.median_ms()
    );
    Ok(QueryTimes { query: query.name.to_owned(), datafusion, local, cluster })
}

fn queries(args: &CompareArgs) -> anyhow::Result<Vec<Query>> {
    if args.queries.is_empty() {
        return Ok(TPCH.to_vec());
    }
    args.queries
        .iter()
        .map(|name| tpch(name).with_context(|| format!("there is no query '{name}'")))
        .collect()
}

fn manifest(args: &CompareArgs) -> anyhow::Result<Manifest> {
    let file = args.data.join("manifest.json");
    let Ok(text) = std::fs::read_to_string(&file) else {
        bail!(
            "{} is not there: make the data with `firesteel bench gen tpch --out {}`",
            file.display(),
            args.data.display()
        );
    };
    let manifest: Manifest =
        serde_json::from_str(&text).with_context(|| format!("{} is no manifest", file.display()))?;
    let format = manifest.recipe.format;
    ensure!(
        format == Format::Parquet,
        "{} holds {format} files; give a folder of Parquet files",
        args.data.display()
    );
    Ok(manifest)
}

/// What the figures were measured on.
fn machine() -> String {
    let line = |file: &str, key: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let value = text.lines().find(|line| line.starts_with(key)).and_then(|line| line.split_once(':'));
        value.map(|(_, value)| value.trim().to_owned()).unwrap_or_else(|| "?".to_owned())
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cpus} CPUs ({}), {} of memory, Linux {}",
        line("/proc/cpuinfo", "model name"),
        line("/proc/meminfo", "MemTotal"),
        kernel.trim()
    )
}

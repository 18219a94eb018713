//! Files of blocks that are damaged: whoever reads them notices, and what wrote them is run again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firesteel_base::ByteSize;
use firesteel_testing::cluster::{ClusterOptions, files_below};
use firesteel_testing::oracle::tpch::Scale;

use crate::engines::{Engine, cluster, runtime};
use crate::failures::survives;
use crate::tpch::register;

/// Every so many bytes one is another: some in each frame of more than that.
const DAMAGE_EVERY: u64 = 4096;

fn is_of_blocks(path: &Path) -> bool {
    let is_store = |part: &Path| {
        part.file_name().is_some_and(|name| name.to_string_lossy().starts_with("firesteel-blocks-"))
    };
    path.ancestors().skip(1).any(is_store) && path.file_name().is_none_or(|name| name != "lock")
}

/// Turns bytes of a file around; how many. It may go meanwhile.
fn damage(path: &PathBuf) -> std::io::Result<u64> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut damaged = 0;
    for at in (DAMAGE_EVERY / 2..file.metadata()?.len()).step_by(DAMAGE_EVERY as usize) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&[!byte[0]], at)?;
        damaged += 1;
    }
    Ok(damaged)
}

/// Damages what there is of blocks in files, once there are some.
fn damage_blocks(scratch: &Path) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        let files = files_below(scratch).unwrap_or_default();
        let damaged =
            files.iter().filter(|path| is_of_blocks(path)).map(|path| damage(path).unwrap_or(0)).sum::<u64>();
        if damaged > 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("no block went to a file");
}

#[test]
fn no_damaged_byte_of_a_block_file_becomes_a_row() {
    // Nearly all blocks go to files.
    let options = ClusterOptions { memory: ByteSize(192 << 20), ..ClusterOptions::default() };
    let options = options
        .set("executor.block_memory_fraction", "0.05")
        .set("log.level", "info,firesteel_shuffle=debug,firesteel_executor=debug");
    let mut cluster = cluster(options);
    let scratch = cluster.scratch();
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::One).await;
        let mut damaged_in_vain = 0;
        // Damaged may be what nobody reads any more: then the next query is hit.
        for query in ["q18", "q09", "q21", "q18", "q09", "q21"] {
            let progress = engine.0.progress();
            survives(&engine, query, || damage_blocks(&scratch)).await;
            let ended = progress.borrow().clone();
            if ended.stages.iter().any(|stage| stage.failed_attempts > 0) {
                break;
            }
            damaged_in_vain += 1;
        }
        assert!(damaged_in_vain < 6, "nobody has read what was damaged");
        engine.0.close().await;
    });
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    let logs = cluster.all_logs().unwrap();
    let tells = ["it is corrupt", "checksum"].iter().any(|word| logs.contains(word));
    assert!(tells, "nobody has found a block corrupt:\n{logs}");
    cluster.stop().unwrap();
}

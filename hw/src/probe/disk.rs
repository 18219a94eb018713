//! Folders for scratch files.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use firesteel_base::ByteSize;

use super::Finding;

const AREA: &str = "scratch";
/// Direct reads and writes must be aligned to this at most, on every disk in use.
const DIRECT_BYTES: usize = 4096;
const FREE_WANTED_BYTES: u64 = 10 << 30;

pub(super) fn examine(folder: &Path) -> Vec<Finding> {
    vec![judge_direct(folder, &try_direct(folder)), judge_free(folder, free_bytes(folder))]
}

pub(super) fn judge_direct(folder: &Path, tried: &io::Result<()>) -> Finding {
    let name = format!("O_DIRECT in {}", folder.display());
    match tried {
        Ok(()) => Finding::ok(AREA, name, "available"),
        Err(fault) if fault.kind() == io::ErrorKind::InvalidInput => Finding::missing(
            AREA,
            &name,
            format!("the file system refuses it ({fault})"),
            "put scratch files on ext4 or xfs, on a local disk",
        ),
        Err(fault) => {
            Finding::missing(AREA, &name, fault.to_string(), "name a folder that this user can write to")
        }
    }
}

pub(super) fn judge_free(folder: &Path, free: io::Result<u64>) -> Finding {
    let name = format!("room in {}", folder.display());
    let advice = "make room, or name a folder on a larger disk: what does not fit in memory goes there";
    match free {
        Ok(free) if free >= FREE_WANTED_BYTES => Finding::ok(AREA, name, format!("{} free", ByteSize(free))),
        Ok(free) => Finding::warn(AREA, &name, format!("{} free", ByteSize(free)), advice),
        Err(fault) => Finding::missing(AREA, &name, fault.to_string(), advice),
    }
}

fn free_bytes(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Writes an aligned block past the page cache and reads it back.
fn try_direct(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".firesteel-doctor-{}", std::process::id()));
    let tried = write_and_read(&path);
    // It is not there when opening it failed.
    let _ = fs::remove_file(&path);
    tried
}

fn write_and_read(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).custom_flags(libc::O_DIRECT);
    let file = options.open(path)?;
    let mut space = vec![0x5a; 2 * DIRECT_BYTES];
    let start = space.as_ptr().align_offset(DIRECT_BYTES);
    let block = &mut space[start..start + DIRECT_BYTES];
    file.write_all_at(block, 0)?;
    block.fill(0);
    file.read_exact_at(block, 0)?;
    if block.iter().all(|&byte| byte == 0x5a) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "what was read is not what was written"))
    }
}

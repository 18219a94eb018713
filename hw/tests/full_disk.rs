//! A disk that is full, and a limit on the size of files, as every scratch engine meets them.
//!
//! The disk is a small file system in memory, mounted where only the test's own thread and the threads it starts see it.
//! That takes the right to mount: without it the test says so and tries the limit alone.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use firesteel_hw::scratch::{EngineKind, Scratch, ScratchConfig, ScratchError, ScratchFile};
use futures::executor::block_on;

const DISK_BYTES: u64 = 8 << 20;
const SEGMENT_BYTES: usize = 512 << 10;

/// Gives the calling thread a view of the file systems of its own and mounts a small disk in it.
fn mount_small_disk(folder: &Path) -> io::Result<()> {
    // SAFETY: the call takes no pointer; this thread alone gets other namespaces.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) })?;
    mount("none", Path::new("/"), libc::MS_REC | libc::MS_PRIVATE, None)?;
    mount("tmpfs", folder, 0, Some(&format!("size={DISK_BYTES}")))
}

fn mount(kind: &str, at: &Path, flags: libc::c_ulong, options: Option<&str>) -> io::Result<()> {
    let kind = CString::new(kind)?;
    let at = CString::new(at.as_os_str().as_bytes())?;
    let options = options.map(CString::new).transpose()?;
    let options = options.as_ref().map_or(std::ptr::null(), |options| options.as_ptr());
    // SAFETY: all pointers are null or to strings that end with zero and outlive the call.
    check(unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, options.cast()) })
}

fn check(done: libc::c_int) -> io::Result<()> {
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the kernel refuse files of more bytes, with an error and not with a signal.
fn limit_files(bytes: u64) {
    // SAFETY: ignoring a signal installs no handler.
    let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    assert_ne!(before, libc::SIG_ERR);
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit outlives the call, which only reads it.
    check(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }).unwrap();
}

/// Appends until that fails; the segments that were written, and the failure.
async fn fill(file: &ScratchFile) -> (Vec<u64>, ScratchError) {
    let mut places = Vec::new();
    for number in 0..2 * DISK_BYTES / SEGMENT_BYTES as u64 {
        match file.append(&[&vec![number as u8; SEGMENT_BYTES]]).await {
            Ok(segment) => places.push(segment.offset),
            Err(fault) => return (places, fault),
        }
    }
    panic!("more was written than there is room for");
}

/// How long the kernel may take to give the room of a file back that was removed: a ring lets go of its files by and by,
/// that of a service that ended too.
const ROOM_LIMIT: Duration = Duration::from_secs(10);

/// Fills the folder with each engine; what was written before stays readable, and a file that is removed makes room.
fn fill_with_every_engine(folder: &Path, direct: bool, expected: io::ErrorKind) {
    for engine in EngineKind::ALL {
        let config = ScratchConfig { name: format!("test-{engine}"), engine, direct, cpu: None };
        let scratch = Scratch::start(&config).unwrap();
        block_on(async {
            let (mut filled, started) = (0, Instant::now());
            while filled < 2 {
                let file = match scratch.create(&folder.join("a")).await {
                    Ok(file) => file,
                    Err(fault) => panic!("{engine}, direct {direct}, {filled} times filled: {fault}"),
                };
                let (places, fault) = fill(&file).await;
                let ScratchError::Io { operation: "write", source, .. } = &fault else {
                    panic!("{engine}, direct {direct}: {fault:?}");
                };
                assert_eq!(source.kind(), expected, "{engine}, direct {direct}: {fault}");
                let is_full = places.len() as u64 >= DISK_BYTES / SEGMENT_BYTES as u64 - 2;
                assert!(is_full || started.elapsed() < ROOM_LIMIT, "{engine}: {places:?}");
                filled += usize::from(is_full);
                for (number, &at) in places.iter().enumerate() {
                    let read = file.read(at..at + SEGMENT_BYTES as u64).await.unwrap();
                    assert!(read.iter().all(|&byte| byte == number as u8), "{engine}: segment {number}");
                }
                file.remove().await.unwrap();
            }
        });
    }
}

#[test]
fn a_full_disk_is_an_error_and_what_was_written_stays() {
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    match mount_small_disk(folder.path()) {
        // glommio's own pool of buffers takes no such file system when it is direct, and tells so at the first file.
        Ok(()) => fill_with_every_engine(folder.path(), false, io::ErrorKind::StorageFull),
        Err(fault) => println!("SKIPPED: a full disk, for this user may not mount one ({fault})"),
    }
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    limit_files(DISK_BYTES);
    for direct in [false, true] {
        fill_with_every_engine(folder.path(), direct, io::ErrorKind::FileTooLarge);
    }
}

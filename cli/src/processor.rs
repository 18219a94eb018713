//! Which of two programs runs: packages have `firesteel` for every x86-64, and once more for processors of the level x86-64-v3.
//!
//! ```text
//!   usr/bin/firesteel                                for every x86-64: what people and units start
//!        │ the processor has all that the level asks for (AVX2, BMI, FMA and what comes with them)
//!        ▼ exec
//!   usr/lib/firesteel/VERSION/x86-64-v3/firesteel    the same, compiled for that level
//! ```
//!
//! The compiler may then use these instructions everywhere: in the kernels of Arrow, in DataFusion's operators and in ours, of
//! which few choose at run time (docs/packages.md has what it is worth). Nothing else differs, so where there is no second program,
//! as beside a build of one's own, the first one does everything. The version in the path keeps programs of two releases apart while
//! one replaces the other.
//!
//! The levels: <https://gitlab.com/x86-psABIs/x86-64-ABI>.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use firesteel_base::UserError;

use crate::args::BUILD;
use crate::exit::Failure;

/// Which program runs: `x86-64` is the one for all; anything else is refused.
const VARIABLE: &str = "FIRESTEEL_PROCESSOR";

const EVERY: &str = "x86-64";
/// What the faster program is compiled for.
pub const FASTER: &str = "x86-64-v3";

/// What this program was compiled for: a level, or, where there are none, the architecture.
pub const COMPILED_FOR: &str = if cfg!(not(target_arch = "x86_64")) {
    std::env::consts::ARCH
} else if cfg!(target_feature = "avx2") {
    FASTER
} else {
    EVERY
};

/// Makes way for the program that is compiled for this processor, if there is one. It comes back where this one is to run.
///
/// # Errors
/// When the environment asks for a program that there is none of.
pub fn make_way() -> Result<(), Failure> {
    match std::env::var_os(VARIABLE) {
        Some(level) if level == EVERY => return Ok(()),
        Some(level) if !level.is_empty() => {
            let error = UserError::new(format!(
                "{VARIABLE} = '{}': there is no such program",
                level.to_string_lossy()
            ));
            return Err(Failure::usage(
                error.hint(format!("'{EVERY}' takes the one for all processors; unset it for the fastest")),
            ));
        }
        _ => {}
    }
    if let Some(program) = faster() {
        let mut words = std::env::args_os();
        let mut command = Command::new(program);
        if let Some(name) = words.next() {
            command.arg0(name);
        }
        // It returns only when that one cannot be started, and this one can do the same.
        let _cannot = command.args(words).exec();
    }
    Ok(())
}

/// The faster program of this very build, where it can run.
fn faster() -> Option<PathBuf> {
    if COMPILED_FOR == FASTER || !processor_is_of_level() {
        return None;
    }
    let program = beside(&std::env::current_exe().ok()?)?;
    program.is_file().then_some(program)
}

fn beside(this: &Path) -> Option<PathBuf> {
    let root = this.parent()?.parent()?;
    Some(root.join("lib/firesteel").join(BUILD).join(FASTER).join("firesteel"))
}

/// Whether the processor, and the system with it, has all that the level asks for.
#[cfg(target_arch = "x86_64")]
pub fn processor_is_of_level() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("movbe")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("sse4.2")
}

/// Only x86-64 has levels.
#[cfg(not(target_arch = "x86_64"))]
pub fn processor_is_of_level() -> bool {
    false
}

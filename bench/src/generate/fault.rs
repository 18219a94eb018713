//! What the file system refused, as it is told to a person.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::Path;

use firesteel_base::UserError;

/// `verb` was refused on `path`.
pub(super) fn io(verb: &str, path: &Path, error: &io::Error) -> UserError {
    let told = UserError::new(format!("cannot {verb} {}", path.display())).detail(error.to_string());
    match hint(error.kind()) {
        Some(hint) => told.hint(hint),
        None => told,
    }
}

/// What made or wrote rows failed on `path`, most often because the file system refused something.
pub(super) fn rows(verb: &str, path: &Path, error: &(dyn Error + 'static)) -> UserError {
    let mut cause = Some(error);
    while let Some(fault) = cause {
        if let Some(refused) = fault.downcast_ref::<io::Error>() {
            return io(verb, path, refused);
        }
        cause = fault.source();
    }
    UserError::new(format!("cannot {verb} {}", path.display())).detail(error.to_string())
}

fn hint(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(
            "make space on that disk, or give another folder; what is done so far is kept and taken up again",
        ),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Some("give a folder that you may write to")
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            Some("a file is in the way: give another folder")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_done_depends_on_what_was_refused() {
        let told = |kind: ErrorKind| io("write", Path::new("/data/x"), &kind.into());
        assert!(told(ErrorKind::PermissionDenied).hint.unwrap().contains("may write"));
        assert!(told(ErrorKind::StorageFull).hint.unwrap().contains("space"));
        assert_eq!(told(ErrorKind::Other).message, "cannot write /data/x");
        assert_eq!(told(ErrorKind::Other).hint, None);
    }
}

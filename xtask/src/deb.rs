//! The package of Debian.

use std::path::Path;

use anyhow::{Context, Result};

use crate::archive::{ar, tar_gz};
use crate::tree::{READ, RUN, Tree};

/// Which programs the scripts of the package need.
const FOR_SCRIPTS: &str = "systemd | systemd-standalone-sysusers | systemd-sysusers";

/// The bytes of the package: its files, what is known of them, and the scripts that run when it comes and goes.
pub fn package(packaging: &Path, tree: &Tree, version: &str, depends: &str, time: u64) -> Result<Vec<u8>> {
    let mut about = Tree::default();
    let form = packaging.join("deb/control");
    let form = std::fs::read_to_string(&form).with_context(|| format!("cannot read {}", form.display()))?;
    about.put("control", READ, control(&form, tree, version, depends))?;
    for script in ["postinst", "prerm", "postrm"] {
        about.copy(script, RUN, &packaging.join("deb").join(script))?;
    }
    let (about, data) = (tar_gz(&about, "", time)?, tar_gz(tree, "", time)?);
    Ok(ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &about), ("data.tar.gz", &data)], time))
}

fn control(form: &str, tree: &Tree, version: &str, depends: &str) -> String {
    form.replace("{version}", version)
        .replace("{kibibytes}", &tree.bytes().div_ceil(1024).to_string())
        .replace("{depends}", &format!("{depends}, {FOR_SCRIPTS}"))
}

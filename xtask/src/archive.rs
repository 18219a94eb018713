//! Archives whose bytes follow from their contents alone: sorted names, one owner, one time.

use std::io::Write;

use anyhow::Result;
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use crate::tree::{File, RUN, Tree};

/// A compressed tar archive of the files, below `top` (`name/`, or nothing), all of that time and of root.
pub fn tar_gz(tree: &Tree, top: &str, time: u64) -> Result<Vec<u8>> {
    gzip(&tar(tree, top, time)?)
}

fn tar(tree: &Tree, top: &str, time: u64) -> Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    let folders = tree.folders().into_iter().map(|path| (format!("{path}/"), None));
    let files = tree.files().map(|(path, file)| (path.to_owned(), Some(file)));
    // A folder's name sorts before all that is in it.
    let mut entries: Vec<_> = folders.chain(files).collect();
    entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    if !top.is_empty() {
        append(&mut builder, top, None, time)?;
    }
    for (path, file) in entries {
        append(&mut builder, &format!("{top}{path}"), file, time)?;
    }
    Ok(builder.into_inner()?)
}

fn append(builder: &mut Builder<Vec<u8>>, path: &str, file: Option<&File>, time: u64) -> Result<()> {
    let mut header = Header::new_gnu();
    let bytes = file.map_or(&[][..], |file| &file.bytes);
    header.set_entry_type(if file.is_some() { EntryType::Regular } else { EntryType::Directory });
    header.set_mode(file.map_or(RUN, |file| file.mode));
    header.set_size(u64::try_from(bytes.len())?);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header.set_username("root")?;
    header.set_groupname("root")?;
    Ok(builder.append_data(&mut header, path, bytes)?)
}

/// Compressed, with neither name nor time.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut writer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    writer.write_all(bytes)?;
    Ok(writer.finish()?)
}

/// An archive in the format of `ar`, as a .deb is one: files of root, of that time.
pub fn ar(files: &[(&str, &[u8])], time: u64) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in files {
        assert!(name.len() <= 16, "a name of up to 16 letters needs no table of names");
        let size = content.len();
        bytes.extend_from_slice(format!("{name:<16}{time:<12}0     0     100644  {size:<10}`\n").as_bytes());
        bytes.extend_from_slice(content);
        if size % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_of_odd_files_is_padded_to_even() {
        let bytes = ar(&[("debian-binary", b"2.0"), ("data", b"xy")], 1_700_000_000);
        let expected = "!<arch>\n\
            debian-binary   1700000000  0     0     100644  3         `\n2.0\n\
            data            1700000000  0     0     100644  2         `\nxy";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
}

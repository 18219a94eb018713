//! Where files are written, and where they wait until they are complete.

use std::path::{Path, PathBuf};

use datafusion::common::TableReference;
use datafusion::datasource::listing::{ListingTable, ListingTableUrl};
use datafusion::error::Result;
use firesteel_base::UserError;

use crate::session::statements::external;
use crate::session::tables::Location;

/// A local path that a job writes, and the staging folder of this one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The file, or the folder that files are added to.
    pub path: PathBuf,
    /// The folder that its files wait in. On the same file system, so that moving them out is one step each.
    pub staging: PathBuf,
}

impl Target {
    /// The target at that place; `None` when it is no local one.
    pub(super) fn new(location: &Location) -> Result<Option<Self>> {
        Self::at(&location.url)
    }

    /// The folder of that table.
    pub(super) fn of_table(table: &ListingTable, name: &TableReference) -> Result<Option<Self>> {
        let url = &table.table_paths()[0];
        if !url.is_collection() {
            let error = UserError::new(format!("rows cannot be added to table '{name}'"))
                .detail(format!("it was created over the single file {url}"))
                .hint("create it over a folder, with a trailing '/'");
            return Err(external(error));
        }
        let extension = table.options().format.get_ext();
        let probe = format!("x.{}", extension.trim_start_matches('.'));
        if url.get_glob().as_ref().is_some_and(|glob| !glob.matches(&probe)) {
            let error = UserError::new(format!("rows cannot be added to table '{name}'"))
                .detail(format!("new files end in .{extension}, and the table reads only {url}"))
                .hint("create it over the folder, with files of one kind in it");
            return Err(external(error));
        }
        Self::at(url)
    }

    fn at(url: &ListingTableUrl) -> Result<Option<Self>> {
        if url.scheme() != "file" {
            return Ok(None);
        }
        let path = PathBuf::from(format!("/{}", url.prefix()));
        let folder = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or(Path::new("/")) };
        let staging = folder.join(format!(".firesteel-{}", uuid::Uuid::new_v4().simple()));
        Ok(Some(Self { path, staging }))
    }
}

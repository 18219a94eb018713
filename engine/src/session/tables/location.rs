//! Where a table's files lie: a path, a pattern or an address, and the files found there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::error::DataFusionError;
use firesteel_base::UserError;
use futures::TryStreamExt;
use glob::{MatchOptions, Pattern};
use object_store::{ObjectMeta, ObjectStore};

use super::kind::{FileKind, Suffix};
use crate::session::classify;
use crate::session::names::{did_you_mean, nearest};

/// How many files a message names at most.
const FILES_NAMED_MAX: usize = 5;

/// A place as somebody wrote it, made absolute.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    /// As it was written, for messages.
    pub text: String,
    /// Made absolute, so that processes in other folders read the same files.
    pub url: ListingTableUrl,
}

/// What was found at a location.
pub(super) struct Found {
    /// The location, narrowed to the files of the kind; one for each folder when its pattern spans folders.
    pub urls: Vec<ListingTableUrl>,
    /// The files, by name. Those without a byte are left out.
    pub files: Vec<ObjectMeta>,
    /// What their names end in; nothing when a single file's name tells nothing.
    pub suffix: Option<Suffix>,
}

impl Location {
    /// The place that `text` names.
    pub fn parse(text: &str) -> Result<Self, UserError> {
        let fault = |detail: String| UserError::new(format!("'{text}' is no path or address")).detail(detail);
        if text.trim().is_empty() {
            return Err(UserError::new("a path is missing").hint("name a file, a folder or a pattern"));
        }
        let url = match text.split_once("://") {
            // The usual parser takes a pattern in an address for a name.
            Some((scheme, rest)) if scheme != "file" && rest.contains(['*', '?', '[']) => {
                let slash = rest.find(['*', '?', '[']).and_then(|at| rest[..at].rfind('/'));
                let slash = slash.ok_or_else(|| fault("a bucket's name cannot be a pattern".to_owned()))?;
                let (folder, pattern) = rest.split_at(slash + 1);
                ListingTableUrl::parse(format!("{scheme}://{folder}")).and_then(|url| url.with_glob(pattern))
            }
            _ => ListingTableUrl::parse(text),
        };
        let url = url.map_err(|inner| fault(classify(&inner).1.message))?;
        Ok(Self { text: text.to_owned(), url })
    }

    /// The local path, without the pattern; `None` for an address elsewhere.
    pub fn local_path(&self) -> Option<PathBuf> {
        (self.url.scheme() == "file").then(|| PathBuf::from(format!("/{}", self.url.prefix())))
    }

    /// The object store that it lies in.
    pub(super) fn store(&self, state: &dyn Session) -> Result<Arc<dyn ObjectStore>, UserError> {
        state.runtime_env().object_store(&self.url).map_err(|fault| classify(&fault).1)
    }

    /// Whether this is the folder of a new table: declared with columns, and with nothing in it yet.
    pub(super) fn is_new_folder(&self) -> bool {
        let Some(path) = self.local_path().filter(|_| self.url.get_glob().is_none()) else {
            return false;
        };
        let empty = fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
        empty || (!path.exists() && self.text.ends_with('/'))
    }

    /// The files of `kind` there. In a folder, those whose names end as such files' do; with a compression asked for,
    /// those that are compressed so.
    pub(super) async fn find(
        &self,
        state: &dyn Session,
        kind: FileKind,
        compression: Option<&str>,
    ) -> Result<Found, UserError> {
        if let Some(path) = self.local_path() {
            self.check_local(&path)?;
        }
        let all = self.list(state).await?;
        let pattern = self.url.get_glob().is_some();
        if all.is_empty() {
            return Err(self.nothing_found(pattern));
        }
        if !pattern && self.url.is_collection() {
            return self.of_kind(all, kind, compression);
        }
        let suffix = all.first().and_then(|file| kind.suffix_of(file.location.filename()?));
        let urls = match self.pattern_over_folders() {
            Some(pattern) => self.folders_of(&all, pattern)?,
            None => vec![self.url.clone()],
        };
        self.found(all, suffix, urls)
    }

    /// All files there, by name.
    pub(super) async fn list(&self, state: &dyn Session) -> Result<Vec<ObjectMeta>, UserError> {
        let store = self.store(state)?;
        let all = match self.pattern_over_folders() {
            Some(pattern) => {
                let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
                let matches = |file: &ObjectMeta| {
                    let below = file.location.prefix_match(self.url.prefix());
                    let path =
                        below.map(|parts| parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>());
                    path.is_some_and(|parts| pattern.matches_with(&parts.join("/"), options))
                };
                let all = store.list(Some(self.url.prefix())).try_collect::<Vec<_>>().await;
                all.map(|all| all.into_iter().filter(matches).collect()).map_err(DataFusionError::from)
            }
            None => match self.url.list_all_files(state, store.as_ref(), "").await {
                Ok(files) => files.try_collect::<Vec<_>>().await,
                Err(fault) => Err(fault),
            },
        };
        let mut all = all.map_err(|fault| {
            let (_, error) = classify(&fault);
            UserError::new(format!("'{}' cannot be listed", self.text)).detail(error.message)
        })?;
        all.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(all)
    }

    /// The pattern, when it has a part for folders: DataFusion matches patterns with names of files alone.
    fn pattern_over_folders(&self) -> Option<&Pattern> {
        self.url.get_glob().as_ref().filter(|pattern| pattern.as_str().contains('/'))
    }

    /// The folders that the files lie in, each with the pattern's last part.
    fn folders_of(&self, files: &[ObjectMeta], pattern: &Pattern) -> Result<Vec<ListingTableUrl>, UserError> {
        let (_, names) = pattern.as_str().rsplit_once('/').unwrap_or(("", pattern.as_str()));
        let folder = |file: &ObjectMeta| {
            let path = file.location.as_ref();
            path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned()
        };
        let mut folders: Vec<String> = files.iter().map(folder).collect();
        folders.dedup();
        let root = self.url.object_store();
        let urls = folders.into_iter().map(|folder| {
            let url = ListingTableUrl::parse(format!("{}{folder}/", root.as_str()))?;
            url.with_glob(names)
        });
        urls.collect::<Result<_, DataFusionError>>().map_err(|fault| classify(&fault).1)
    }

    pub(super) fn check_local(&self, path: &Path) -> Result<(), UserError> {
        let readable = fs::metadata(path).and_then(|meta| match meta.is_dir() {
            true => fs::read_dir(path).map(drop),
            false => fs::File::open(path).map(drop),
        });
        readable.map_err(|fault| match fault.kind() {
            io::ErrorKind::NotFound => {
                let error = UserError::new(format!("'{}' does not exist", self.text))
                    .detail(format!("looked for {}", path.display()));
                match nearest_sibling(path) {
                    Some(name) => error.hint(did_you_mean(&name)),
                    None => error,
                }
            }
            io::ErrorKind::PermissionDenied => {
                UserError::new(format!("there is no permission to read '{}'", self.text))
                    .detail(path.display().to_string())
            }
            _ => UserError::new(format!("'{}' cannot be read: {fault}", self.text)),
        })
    }

    fn nothing_found(&self, pattern: bool) -> UserError {
        if pattern {
            return UserError::new(format!("no file matches '{}'", self.text));
        }
        UserError::new(format!("there is no file in '{}'", self.text))
            .hint("files in folders below are read only when those are named column=value")
    }

    fn of_kind(
        &self,
        all: Vec<ObjectMeta>,
        kind: FileKind,
        compression: Option<&str>,
    ) -> Result<Found, UserError> {
        let wanted =
            |suffix: &Suffix| compression.is_none_or(|name| suffix.compression.unwrap_or("") == name);
        let suffix = |file: &ObjectMeta| kind.suffix_of(file.location.filename()?).filter(wanted);
        let mut suffixes: Vec<_> = all.iter().filter_map(suffix).collect();
        suffixes.sort();
        suffixes.dedup();
        match suffixes.as_slice() {
            [] => Err(UserError::new(format!("there is no {} file in '{}'", kind.name(), self.text))
                .detail(format!("its files are {}", names(&all)))
                .hint(format!("names of {} files end in {}", kind.name(), kind.extensions().join(" or ")))),
            [one] => {
                let files = all.into_iter().filter(|file| suffix(file).is_some()).collect();
                let url = self.url.clone().with_glob(&format!("*{}", one.text));
                let url = url.map_err(|fault| classify(&fault).1)?;
                self.found(files, Some(one.clone()), vec![url])
            }
            several => {
                let ends: Vec<_> = several.iter().map(|suffix| suffix.text.as_str()).collect();
                Err(UserError::new(format!("'{}' mixes files that end in {}", self.text, ends.join(" and ")))
                    .hint(format!(
                        "choose with a pattern, such as '{}/*{}'",
                        self.text.trim_end_matches('/'),
                        ends[0]
                    )))
            }
        }
    }

    fn found(
        &self,
        files: Vec<ObjectMeta>,
        suffix: Option<Suffix>,
        urls: Vec<ListingTableUrl>,
    ) -> Result<Found, UserError> {
        let files: Vec<_> = files.into_iter().filter(|file| file.size > 0).collect();
        if files.is_empty() {
            return Err(UserError::new(format!("'{}' is empty: it has no byte", self.text)));
        }
        Ok(Found { urls, files, suffix })
    }
}

/// The name beside `path` that its last part is most likely a slip of.
fn nearest_sibling(path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_str()?;
    let entries = fs::read_dir(path.parent()?).ok()?;
    let names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    nearest(wanted, names.iter().map(String::as_str)).map(str::to_owned)
}

fn names(files: &[ObjectMeta]) -> String {
    let shown = files.iter().filter_map(|file| file.location.filename()).take(FILES_NAMED_MAX);
    let shown = shown.collect::<Vec<_>>().join(", ");
    match files.len().saturating_sub(FILES_NAMED_MAX) {
        0 => shown,
        rest => format!("{shown} and {rest} more"),
    }
}

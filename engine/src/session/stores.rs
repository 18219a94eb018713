//! Object stores: opened from a URL and options, remembered by the session, and opened again on executors.
//!
//! What an executor needs to open a store travels among the job's [`Settings`], as entries
//! `firesteel.store.<url>` and `firesteel.store.<url>.aws.<key>`. They may hold secrets: they are handed to executors of
//! the cluster, and never printed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::execution::runtime_env::RuntimeEnv;
use firesteel_base::UserError;
use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use parking_lot::Mutex;
use url::Url;

use super::names::{did_you_mean, nearest};
use crate::Settings;

/// What the entries that describe stores begin with.
pub(crate) const PREFIX: &str = "firesteel.store.";
/// What options of an S3-compatible store begin with.
pub(crate) const AWS: &str = "aws.";
const KNOWN_KEYS: [&str; 9] = [
    "aws.access_key_id",
    "aws.allow_http",
    "aws.endpoint",
    "aws.region",
    "aws.secret_access_key",
    "aws.session_token",
    "aws.skip_signature",
    "aws.token",
    "aws.virtual_hosted_style_request",
];

/// Options of one store, by key (`aws.region`, `aws.endpoint`, ...).
pub type StoreOptions = BTreeMap<String, String>;

/// The stores that a session has opened.
#[derive(Default)]
pub struct Stores {
    by_url: Mutex<BTreeMap<String, StoreOptions>>,
}

impl fmt::Debug for Stores {
    /// Names the stores and none of their options, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_url.lock().keys()).finish()
    }
}

impl Stores {
    /// Opens the store that `url` lies in, unless it is open with these options already. Without options, a store that
    /// was opened with some stays as it is. Local files need none.
    ///
    /// # Errors
    /// When there is no such kind of store, or its options make no sense.
    pub fn open(&self, runtime: &RuntimeEnv, url: &Url, options: StoreOptions) -> Result<(), UserError> {
        let Some(root) = root(url)? else {
            return no_options_for_files(&options);
        };
        let mut by_url = self.by_url.lock();
        let known = by_url.get(root.as_str());
        if known.is_some_and(|known| options.is_empty() || *known == options) {
            return Ok(());
        }
        runtime.register_object_store(&root, open(&root, &options)?);
        by_url.insert(root.to_string(), options);
        Ok(())
    }

    /// The entries by which executors open the same stores.
    #[must_use]
    pub fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        for (url, options) in self.by_url.lock().iter() {
            settings.insert(format!("{PREFIX}{url}"), String::new());
            for (key, value) in options {
                settings.insert(format!("{PREFIX}{url}.{key}"), value.clone());
            }
        }
        settings
    }
}

/// Opens the stores that a job's settings name in `runtime`.
///
/// # Errors
/// When a store cannot be opened.
pub fn register(runtime: &RuntimeEnv, settings: &Settings) -> Result<(), UserError> {
    for store in stores_in(settings) {
        let (url, options) = store?;
        runtime.register_object_store(&url, open_once(&url, options)?);
    }
    Ok(())
}

/// The stores that settings describe.
pub(super) fn stores_in(settings: &Settings) -> Vec<Result<(Url, StoreOptions), UserError>> {
    let mut stores: BTreeMap<String, StoreOptions> = BTreeMap::new();
    let entries = settings.0.iter().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value)));
    for (entry, value) in entries {
        match entry.rsplit_once(".aws.") {
            Some((url, key)) => {
                let options = stores.entry(url.to_owned()).or_default();
                options.insert(format!("{AWS}{key}"), value.clone());
            }
            None => drop(stores.entry(entry.to_owned()).or_default()),
        }
    }
    let parse = |(url, options): (String, StoreOptions)| match Url::parse(&url) {
        Ok(url) => Ok((url, options)),
        Err(fault) => {
            Err(UserError::new(format!("'{url}' is no address of an object store")).detail(fault.to_string()))
        }
    };
    stores.into_iter().map(parse).collect()
}

type Opened = Mutex<Vec<(Url, StoreOptions, Arc<dyn ObjectStore>)>>;
/// Stores opened for attempts: a client keeps connections, and every attempt of a job wants the same one.
static OPENED: Opened = Mutex::new(Vec::new());
/// How many stores are kept; the oldest goes.
const OPENED_MAX: usize = 64;

fn open_once(url: &Url, options: StoreOptions) -> Result<Arc<dyn ObjectStore>, UserError> {
    let mut opened = OPENED.lock();
    if let Some((.., store)) = opened.iter().find(|(at, with, _)| at == url && *with == options) {
        return Ok(Arc::clone(store));
    }
    let store = open(url, &options)?;
    if opened.len() >= OPENED_MAX {
        opened.remove(0);
    }
    opened.push((url.clone(), options, Arc::clone(&store)));
    Ok(store)
}

/// The store's own address (`s3://bucket`), or `None` for local files.
fn root(url: &Url) -> Result<Option<Url>, UserError> {
    match url.scheme() {
        "file" => Ok(None),
        "s3" | "s3a" => {
            let root = &url[..url::Position::BeforePath];
            Ok(Some(Url::parse(root).expect("the head of an address is an address")))
        }
        scheme => Err(UserError::new(format!("there is no store of the kind '{scheme}' here"))
            .detail(format!("in '{url}'"))
            .hint("use a local path or s3://bucket/key")),
    }
}

fn no_options_for_files(options: &StoreOptions) -> Result<(), UserError> {
    match options.keys().next() {
        Some(key) => Err(UserError::new(format!("the option '{key}' has no meaning for a local path"))),
        None => Ok(()),
    }
}

fn open(root: &Url, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, UserError> {
    let bucket = root.host_str().unwrap_or_default();
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    for (key, value) in options {
        builder = builder.with_config(config_key(key)?, value);
    }
    refuse_plain_http(&builder, root)?;
    let store = builder.build().map_err(|fault| {
        UserError::new(format!("the object store {root} cannot be opened")).detail(fault.to_string())
    })?;
    Ok(Arc::new(store))
}

fn config_key(key: &str) -> Result<AmazonS3ConfigKey, UserError> {
    let short = key.strip_prefix(AWS).unwrap_or(key);
    let short = if short == "session_token" { "token" } else { short };
    AmazonS3ConfigKey::from_str(short).map_err(|_| {
        let error = UserError::new(format!("there is no option '{key}' of an S3 store"));
        match nearest(key, KNOWN_KEYS) {
            Some(name) => error.hint(did_you_mean(name)),
            None => error.hint(format!("the options are {}", KNOWN_KEYS.join(", "))),
        }
    })
}

/// Says so at once; the store would only fail at its first request, and name a scheme.
fn refuse_plain_http(builder: &AmazonS3Builder, root: &Url) -> Result<(), UserError> {
    use object_store::ClientConfigKey::AllowHttp;
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).unwrap_or_default();
    let allowed = builder.get_config_value(&AmazonS3ConfigKey::Client(AllowHttp));
    if endpoint.starts_with("http://") && allowed.as_deref() != Some("true") {
        return Err(UserError::new(format!("the endpoint of {root} is not encrypted: {endpoint}"))
            .hint("use https, or allow it with OPTIONS ('aws.allow_http' 'true')"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> StoreOptions {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn executors_open_what_the_session_opened() {
        let stores = Stores::default();
        let url = Url::parse("s3://my.bucket/a/b.parquet").unwrap();
        let given =
            options(&[("aws.region", "eu-1"), ("aws.access_key_id", "k"), ("aws.secret_access_key", "s")]);
        stores.open(&RuntimeEnv::default(), &url, given.clone()).unwrap();
        stores.open(&RuntimeEnv::default(), &url, StoreOptions::new()).unwrap();
        let settings = Settings(stores.settings());
        assert_eq!(stores_in(&settings), [Ok((Url::parse("s3://my.bucket").unwrap(), given))]);
        let executor = RuntimeEnv::default();
        register(&executor, &settings).unwrap();
        executor.object_store_registry.get_store(&url).unwrap();
        assert!(!format!("{stores:?}").contains("secret"));
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let open = |address: &str, pairs: &[(&str, &str)]| {
            let url = Url::parse(address).unwrap();
            Stores::default().open(&RuntimeEnv::default(), &url, options(pairs)).unwrap_err().to_string()
        };
        assert!(open("s3://b/x", &[("aws.regoin", "x")]).contains("did you mean aws.region?"));
        assert!(open("s3://b/x", &[("aws.endpoint", "http://h:9000")]).contains("aws.allow_http"));
        assert!(open("gs://b/x", &[]).contains("'gs'"));
        assert!(open("file:///x", &[("aws.region", "x")]).contains("local path"));
    }
}

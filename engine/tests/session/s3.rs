//! Tables in an S3-compatible store: a small one, that lives in the test.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::lab::Lab;

type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A bucket behind HTTP, path style: lists, reads with ranges, and takes whole objects.
struct Bucket {
    address: String,
    objects: Objects,
}

impl Bucket {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let objects = Objects::default();
        let held = Arc::clone(&objects);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&held)));
            }
        });
        Self { address, objects }
    }

    fn options(&self) -> String {
        format!(
            "options ('aws.endpoint' '{}', 'aws.allow_http' 'true', 'aws.region' 'nowhere-1', \
             'aws.access_key_id' 'key', 'aws.secret_access_key' 'secret')",
            self.address
        )
    }
}

struct Request {
    method: String,
    key: String,
    query: String,
    range: Option<(usize, usize)>,
    body: Vec<u8>,
}

async fn serve(connection: TcpStream, objects: Objects) {
    let mut connection = BufReader::new(connection);
    while let Some(request) = read_request(&mut connection).await {
        let answer = answer(&request, &objects);
        if connection.get_mut().write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn read_request(connection: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    connection.read_line(&mut line).await.ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let key = path.trim_start_matches("/bucket").trim_start_matches('/').to_owned();
    let (mut length, mut range) = (0, None);
    loop {
        let mut header = String::new();
        connection.read_line(&mut header).await.ok()?;
        let Some((name, value)) = header.trim().split_once(':') else {
            break;
        };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "range" => range = parse_range(value.trim()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await.ok()?;
    Some(Request { method, key, query: query.to_owned(), range, body })
}

fn parse_range(value: &str) -> Option<(usize, usize)> {
    let (from, to) = value.strip_prefix("bytes=")?.split_once('-')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

fn answer(request: &Request, objects: &Objects) -> Vec<u8> {
    let mut objects = objects.lock();
    match request.method.as_str() {
        "PUT" => {
            objects.insert(request.key.clone(), request.body.clone());
            response("200 OK", "", b"", true)
        }
        "GET" if request.query.contains("list-type=2") => {
            let prefix = request.query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).unwrap_or("");
            let prefix = prefix.replace("%2F", "/");
            let listed = objects.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(key, bytes)| {
                format!(
                    "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                     <ETag>\"e\"</ETag><Size>{}</Size></Contents>",
                    bytes.len()
                )
            });
            let listed: String = listed.collect();
            let text =
                format!("<ListBucketResult><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>");
            response("200 OK", "", text.as_bytes(), true)
        }
        "GET" | "HEAD" => match objects.get(&request.key) {
            None => response("404 Not Found", "", b"", true),
            Some(bytes) => match request.range {
                Some((from, to)) => {
                    let to = to.min(bytes.len() - 1);
                    let header = format!("Content-Range: bytes {from}-{to}/{}\r\n", bytes.len());
                    response("206 Partial Content", &header, &bytes[from..=to], true)
                }
                None => response("200 OK", "", bytes, request.method == "GET"),
            },
        },
        _ => response("501 Not Implemented", "", b"", true),
    }
}

fn response(status: &str, headers: &str, body: &[u8], with_body: bool) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"e\"\r\n\
         Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n{headers}\r\n",
        body.len()
    );
    let mut bytes = head.into_bytes();
    if with_body {
        bytes.extend_from_slice(body);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_written_and_read() {
    for lab in Lab::both() {
        let bucket = Bucket::start().await;
        let options = bucket.options();
        lab.rows(&format!(
            "copy (select 1 as n union all select 2) to 's3://bucket/t/a.parquet' stored as parquet {options}"
        ))
        .await;
        bucket.objects.lock().insert("t/_SUCCESS".to_owned(), Vec::new());
        bucket.objects.lock().insert("t/notes.txt".to_owned(), b"not a table".to_vec());
        lab.rows(&format!("create external table t stored as parquet location 's3://bucket/t/' {options}"))
            .await;
        assert_eq!(lab.value("select sum(n) from t").await, "3");
        assert_eq!(lab.value("select sum(n) from 's3://bucket/t/*.parquet'").await, "3");
        let job = lab.runner.last.lock().take().unwrap();
        assert_eq!(
            job.settings.0.get("firesteel.store.s3://bucket.aws.region").map(String::as_str),
            Some("nowhere-1")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told() {
    let lab = Lab::local();
    let bucket = Bucket::start().await;
    let options = bucket.options();
    bucket.objects.lock().insert("bad/a.parquet".to_owned(), b"PAR1 and no more".to_vec());
    let fault = lab
        .fault(&format!("create external table t stored as parquet location 's3://bucket/none/' {options}"))
        .await;
    assert!(fault.starts_with("there is no file in 's3://bucket/none/'"), "{fault}");
    let fault = lab
        .fault(&format!("create external table t stored as parquet location 's3://bucket/bad/' {options}"))
        .await;
    assert!(fault.starts_with("the Parquet file 's3://bucket/bad/a.parquet' is truncated"), "{fault}");
}

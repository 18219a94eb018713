//! The service as its clients find it, hostile ones among them.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use firesteel_base::config::HostPort;
use firesteel_metrics::{CONNECTION_MAX, FRESH, Health, Page, Served, Source, open, table};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A daemon that counts how often it is looked at.
#[derive(Default)]
struct Daemon {
    looks: Arc<AtomicU64>,
    ails: bool,
    hangs: bool,
}

impl Source for Daemon {
    async fn page(&self) -> Page {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let mut page = Page::default();
        page.put(&table::GRANTS, self.looks.fetch_add(1, Ordering::SeqCst) + 1);
        page
    }

    async fn health(&self) -> Health {
        if self.ails {
            Health::Ails("no manager".to_owned())
        } else {
            Health::Serves("registered".to_owned())
        }
    }
}

async fn serve(daemon: Daemon) -> (Served, String) {
    let address: HostPort = "127.0.0.1:0".parse().unwrap();
    let listener = open("worker", "worker.metrics", Some(&address)).await.unwrap().unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (Served::start(listener, daemon), address)
}

/// What comes back for these bytes until the connection is closed.
async fn say(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The service may close before all is said.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(15), stream.read_to_end(&mut answer)).await;
    // A reset after the answer is an end too.
    let _ = read.expect("the connection ends in time");
    String::from_utf8(answer).unwrap()
}

async fn get(address: &str, path: &str) -> String {
    say(address, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await
}

#[tokio::test]
async fn each_request_has_its_answer() {
    let (_served, address) = serve(Daemon::default()).await;
    let page = get(&address, "/metrics").await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{page}");
    assert!(page.ends_with("firesteel_manager_grants_total 1\n"), "{page}");
    assert!(get(&address, "/healthz").await.ends_with("\r\n\r\nregistered\n"));
    assert!(get(&address, "/metrics?x=1").await.starts_with("HTTP/1.1 200"));
    assert!(get(&address, "/secrets").await.starts_with("HTTP/1.1 404"));
    let posted = say(&address, b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc").await;
    assert!(posted.starts_with("HTTP/1.1 405") && posted.contains("allow: GET, HEAD\r\n"), "{posted}");
    let head = say(&address, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn a_daemon_that_ails_says_why() {
    let (_served, address) = serve(Daemon { ails: true, ..Daemon::default() }).await;
    let told = get(&address, "/healthz").await;
    assert!(told.starts_with("HTTP/1.1 503") && told.ends_with("no manager\n"), "{told}");
}

#[tokio::test]
async fn a_daemon_that_hangs_is_told_of_in_time() {
    let (_served, address) = serve(Daemon { hangs: true, ..Daemon::default() }).await;
    let began = Instant::now();
    let told = get(&address, "/metrics").await;
    assert!(told.starts_with("HTTP/1.1 503") && told.contains("has not answered within 5 s"), "{told}");
    assert!(began.elapsed() < CONNECTION_MAX);
}

#[tokio::test]
async fn many_who_ask_at_once_have_one_page_made() {
    let daemon = Daemon::default();
    let looks = Arc::clone(&daemon.looks);
    let (_served, address) = serve(daemon).await;
    let began = Instant::now();
    let all = futures_of(40, || get(&address, "/metrics")).await;
    assert!(all.iter().all(|page| page.starts_with("HTTP/1.1 200")), "{all:?}");
    let most = 1 + began.elapsed().as_millis() / FRESH.as_millis();
    assert!(u128::from(looks.load(Ordering::SeqCst)) <= most, "{looks:?} in {:?}", began.elapsed());
}

async fn futures_of<F: Future<Output = String>>(count: usize, make: impl Fn() -> F) -> Vec<String> {
    let mut futures: Vec<_> = (0..count).map(|_| Box::pin(make())).collect();
    let mut all = Vec::new();
    // Polled together: each has its connection open before the first is read to its end.
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(page) => {
                all.push(page);
                false
            }
            std::task::Poll::Pending => true,
        });
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    all
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_does_no_harm() {
    let (_served, address) = serve(Daemon::default()).await;
    let giant_line = [b"GET /".to_vec(), vec![b'a'; 1 << 20], b" HTTP/1.1\r\n\r\n".to_vec()].concat();
    let giant_head = [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'b'; 1 << 20], b"\r\n\r\n".to_vec()].concat();
    let many_lines = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000));
    let wrong: [&[u8]; 6] = [
        &giant_line,
        &giant_head,
        many_lines.as_bytes(),
        b"\0\xff\xfe\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ];
    for bytes in wrong {
        let told = say(&address, bytes).await;
        assert!(told.is_empty() || told.starts_with("HTTP/1.1 4"), "{told}");
        assert!(get(&address, "/healthz").await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn who_says_half_of_something_is_not_waited_for() {
    let (_served, address) = serve(Daemon::default()).await;
    let began = Instant::now();
    let told = say(&address, b"GET /metrics HTTP/1.1\r\nHost: ").await;
    assert!(told.is_empty() || told.starts_with("HTTP/1.1 408"), "{told}");
    assert!(began.elapsed() < CONNECTION_MAX, "{:?}", began.elapsed());
}

/// As many connections as a process may well have, all of which say half of something or nothing.
#[tokio::test]
async fn a_crowd_that_says_nothing_keeps_nobody_out() {
    let (_served, address) = serve(Daemon::default()).await;
    let mut crowd = Vec::new();
    for number in 0..500 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        if number % 2 == 0 {
            // It may be closed already.
            let _ = stream.write_all(b"GET /met").await;
        }
        crowd.push(stream);
        if number % 50 == 0 {
            let began = Instant::now();
            assert!(get(&address, "/metrics").await.starts_with("HTTP/1.1 200"), "after {number}");
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        }
    }
    // The oldest had to go.
    let mut first = crowd.swap_remove(0);
    let ended = timeout(Duration::from_secs(2), first.read(&mut [0; 512])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_named_with_its_setting() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: HostPort = taken.local_addr().unwrap().to_string().parse().unwrap();
    let told = open("manager", "manager.metrics", Some(&address)).await.unwrap_err();
    assert!(told.to_string().contains(&format!("metrics at {address} (manager.metrics)")), "{told}");
    assert!(told.hint.unwrap().contains("or off"));
    assert!(open("manager", "manager.metrics", None).await.unwrap().is_none());
}

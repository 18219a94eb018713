//! What the finder finds in small sources, and what it leaves out.

#![allow(clippy::unwrap_used)]

use super::*;

fn found(text: &str) -> Vec<String> {
    let source = Source::parse("hw/src/a.rs", text).unwrap();
    find(&[source]).into_iter().map(|wait| format!("{} {}", wait.function, wait.what)).collect()
}

/// What is found in an async function with `body`.
fn found_in(body: &str) -> Vec<String> {
    let found = found(&format!("async fn f() {{ {body} }}"));
    found.into_iter().map(|wait| wait.strip_prefix("f ").unwrap().to_owned()).collect()
}

#[test]
fn a_bare_wait_is_found_with_its_place() {
    let source =
        Source::parse("hw/src/a.rs", "impl A {\n  async fn f(&self) {\n    self.x.recv().await;\n  }\n}")
            .unwrap();
    let wait = Wait { file: "hw/src/a.rs".into(), function: "A::f".into(), what: "x.recv".into(), line: 3 };
    assert_eq!(find(&[source]), [wait]);
}

#[test]
fn every_kind_of_wait_is_found() {
    for (body, what) in [
        ("while let Some(x) = self.events.recv().await {}", "events.recv"),
        ("answer.await", "answer"),
        ("self.task.await?", "task"),
        ("let _whole = self.writing.lock().await;", "writing.lock"),
        ("Arc::clone(&self.limit).acquire_owned().await", "limit.acquire_owned"),
        ("TcpStream::connect(address).await?", "TcpStream::connect"),
        ("stream.read_exact(&mut head).await?", "stream.read_exact"),
        ("tokio::task::spawn_blocking(work).await", "task::spawn_blocking"),
        ("std::future::pending::<()>().await", "future::pending"),
        ("client.wait_job(request).await", "client.wait_job"),
        ("let rows = poll_fn(move |cx| x.go(cx));", "poll_fn"),
        ("let x = start(); x.await", "x"),
        ("AssertUnwindSafe(work).catch_unwind().await", "work"),
        ("futures::future::join_all(children).await", "future::join_all"),
        ("tokio::join!(a.recv(), async { b.changed().await });", "a.recv"),
    ] {
        assert_eq!(found_in(body).first().map(String::as_str), Some(what), "{body}");
    }
}

#[test]
fn what_stops_a_thread_is_found() {
    for (body, what) in [
        ("runtime.block_on(work);", "runtime.block_on"),
        ("let x = started.recv();", "started.recv"),
        ("let t = spawn(work); t.join();", "t.join"),
        ("progress.wait(&mut state);", "progress.wait"),
        ("let (tx, rx) = mpsc::channel(); for x in rx {}", "rx in a loop"),
        ("std::io::stdin().read_line(&mut line);", "stdin.read_line"),
        ("std::thread::scope(|scope| {});", "scope"),
    ] {
        assert_eq!(found_in(body), [what], "{body}");
    }
    for body in [
        "parts.join(\", \")",
        "ended.recv_timeout(left)",
        "progress.wait_until(&mut state, end)",
        "file.read(at)",
    ] {
        assert!(found_in(body).is_empty(), "{body}");
    }
}

#[test]
fn what_has_a_clock_is_left_out() {
    for body in [
        "tokio::time::timeout(limit, x.recv()).await",
        "timeout_at(end, async { loop { x.recv().await; } }).await",
        "let work = async { x.recv().await }; timeout(limit, work).await",
        "let work = async { x.recv().await }; tokio::pin!(work); timeout(limit, &mut work).await",
        "sleep(pause).await; interval.tick().await; tokio::task::yield_now().await",
        "timeout(limit, async { tokio::join!(a.recv(), b.recv()) }).await",
    ] {
        assert!(found_in(body).is_empty(), "{body}: {:?}", found_in(body));
    }
}

#[test]
fn a_clock_does_not_reach_what_it_is_not_around() {
    assert_eq!(found_in("timeout(x.recv().await, y.recv()).await"), ["x.recv"]);
    assert_eq!(found_in("timeout(limit, spawn(async move { x.recv().await })).await"), ["x.recv"]);
    assert_eq!(found_in("timeout(limit, x.recv()).await; y.recv().await"), ["y.recv"]);
    assert_eq!(
        found_in("let a = async { x.recv().await }; let b = 1; timeout(limit, b).await; a.await"),
        ["x.recv"]
    );
}

#[test]
fn a_function_of_ours_that_puts_a_clock_around_its_argument_counts_as_one() {
    let within = "async fn within<F>(limit: Duration, work: F) { timeout(limit, work).await; }";
    let user = "async fn f() { within(limit, async { x.recv().await }).await }";
    assert!(found(&format!("{within} {user}")).is_empty());
    let other = "async fn within<F>(limit: Duration, work: F) { work.await; }";
    assert_eq!(found(&format!("{other} {user}")), ["within work", "f x.recv"]);
    // One of several of that name is enough for doubt; a method is told apart from a function.
    assert_eq!(found(&format!("{within} mod m {{ {other} }} {user}")), ["within work", "f x.recv"]);
    let method = "impl A { fn within(&self, limit: Duration, work: u32) {} }";
    assert!(found(&format!("{within} {method} {user}")).is_empty());
}

#[test]
fn what_is_called_of_our_own_is_looked_at_where_it_is_written() {
    let text = "impl A { async fn f(&self) { self.next().await; g().await; Self::h().await; }
        async fn next(&self) { self.x.recv().await; } async fn h() {} }
        async fn g() { y.changed().await; }";
    assert_eq!(found(text), ["A::next x.recv", "g y.changed"]);
    // A method of the same name on something else may be a library's.
    assert_eq!(
        found("impl A { async fn f(&self) { b.next().await } async fn next(&self) {} }"),
        ["A::f b.next"]
    );
    // So may one that only a crate has which is built on this one.
    let later =
        Source::parse("cli/src/b.rs", "impl B { async fn close(&self) {} } async fn g() { b.close().await }")
            .unwrap();
    let before = Source::parse("hw/src/a.rs", "async fn f() { a.close().await }").unwrap();
    let waits = find(&[before, later]);
    assert_eq!(waits.iter().map(|wait| wait.what.as_str()).collect::<Vec<_>>(), ["a.close"]);
    // So is a function that comes from elsewhere.
    assert_eq!(found("use other::g; async fn f() { g().await }"), ["f g"]);
    // What is made of something else's future waits for that.
    assert_eq!(found("fn g() -> Notified { x.notified() } async fn f() { g().await }"), ["f g"]);
}

#[test]
fn a_select_is_one_wait_unless_an_arm_is_always_a_clock() {
    let select = |arms: &str| found_in(&format!("tokio::select! {{ {arms} }}"));
    assert_eq!(
        select("biased; a = x.recv() => a, _ = stop.cancelled() => {}"),
        ["select of x.recv, stop.cancelled"]
    );
    assert!(select("a = x.recv() => {} _ = sleep(limit) => return").is_empty());
    assert!(select("Some(a) = x.recv() => {}, _ = ticks.tick() => {}").is_empty());
    assert_eq!(select("a = x.recv() => {}, _ = sleep(limit), if armed => {}"), ["select of x.recv, sleep"]);
    assert_eq!(select("a = x.recv() => y.recv().await, _ = sleep(limit) => {}"), ["y.recv"]);
    assert_eq!(select("a = async { x.recv().await; } => {}, else => {}"), ["select of expression"]);
}

#[test]
fn closures_and_blocks_are_looked_into() {
    assert_eq!(
        found_in("spawn(async move { (0..9).for_each(|_| { async { x.recv().await }; }) });"),
        ["x.recv"]
    );
    assert_eq!(found_in("let ask = |a| async move { a.changed().await }; ask(b).await"), ["a.changed"]);
    assert_eq!(found_in("if let Some(a) = b { match c { _ => a.closed().await } }"), ["a.closed"]);
}

#[test]
fn futures_that_are_written_by_hand_are_found() {
    let text = "impl Future for A { fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> { Poll::Pending } }";
    assert_eq!(found(text), ["A::poll poll"]);
    assert!(found("impl A { fn poll(&self, round: u32) {} }").is_empty());
}

#[test]
fn tests_are_left_out() {
    let text = "#[cfg(test)] mod tests { async fn f() { x.recv().await } }
        #[cfg(all(test, feature))] async fn g() { x.recv().await }
        async fn h() { #[cfg(test)] x.recv().await?; }";
    assert!(found(text).is_empty());
    assert_eq!(found("#[cfg(not(test))] async fn f() { x.recv().await }"), ["f x.recv"]);
}

#[test]
fn a_macro_that_cannot_be_read_is_told_when_it_waits() {
    assert_eq!(found_in("odd!(a => b.await);"), ["odd!"]);
    assert_eq!(found_in("println!(\"{}\", x.recv().await);"), ["x.recv"]);
}

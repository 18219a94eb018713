//! Mistakes that need a cluster, or the lack of one, to be made: each gets one clear error and leaves nothing behind.

use std::net::TcpListener;
use std::process::Command;

use firesteel_certs::Security;
use firesteel_protocol::channel;
use firesteel_protocol::v1::manager_client::ManagerClient;
use firesteel_protocol::v1::{ListJobsRequest, SubmitRequest};
use firesteel_testing::cluster::{ClusterOptions, Finished, Running, Signal, files_below};
use firesteel_testing::data;
use firesteel_testing::oracle::tpch::Scale;

use crate::engines::{FIRESTEEL, cluster, runtime};

/// One error with a hint, that names `what`.
fn assert_told(errors: &str, what: &[&str]) {
    let told = errors.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(told, 1, "{errors}");
    assert!(errors.contains("\nhint: "), "{errors}");
    for name in what {
        assert!(errors.contains(name), "it does not name {name}:\n{errors}");
    }
    assert!(!errors.contains("panicked") && !errors.contains("stack backtrace"), "{errors}");
}

/// An address that nobody listens on.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn run(arguments: &[&str]) -> Finished {
    let mut command = Command::new(FIRESTEEL);
    command.args(arguments).env_remove("FIRESTEEL_MANAGER");
    Running::start(command).unwrap().finish().unwrap()
}

#[test]
fn a_manager_that_is_not_there() {
    let address = nobody();
    for arguments in [
        &["sql", "--manager", &address, "-c", "select 1"][..],
        &["jobs", "--manager", &address],
        &["nodes", "--manager", &address],
        &["jobs", "cancel", "job1", "--manager", &address],
    ] {
        assert_told(&run(arguments).failed_with(3).unwrap(), &[&address]);
    }
}

#[test]
fn a_worker_id_in_use() {
    let mut cluster = cluster(ClusterOptions::default());
    // Its scratch folder is its own: the name alone is in the way.
    let second = cluster.worker_command("w0", 7).unwrap();
    let ended = Running::start(without_supervision(second)).unwrap().finish().unwrap();
    assert!(!ended.status.success());
    assert_told(&ended.stderr, &["w0", "in use"]);
    // The one that has the name is none the worse for it.
    assert_eq!(cluster.sql("SELECT 1 AS one").unwrap(), "one\n1\n");
    cluster.wait_for("both workers to be there", |cluster| Ok(cluster.nodes()?.len() == 2)).unwrap();
    cluster.stop().unwrap();
}

#[test]
fn a_worker_more_than_there_may_be() {
    let options = ClusterOptions { workers: 1, ..ClusterOptions::default() };
    let mut cluster = cluster(options.set("manager.workers", "1"));
    cluster.add_worker("more").unwrap();
    // It goes on asking, for one of the others may leave.
    let told = ["takes no more than 1 workers", "raise manager.workers"];
    cluster
        .wait_for("the other one to be refused", |cluster| {
            let logs = cluster.all_logs()?;
            Ok(told.iter().all(|words| logs.contains(words)))
        })
        .unwrap();
    cluster.signal_worker(0, Signal::Terminate).unwrap();
    assert_eq!(cluster.sql("SELECT 1 AS one").unwrap(), "one\n1\n");
}

/// The same command without the flag by which it would end at once: it gets no standard input here.
fn without_supervision(command: Command) -> Command {
    let mut other = Command::new(command.get_program());
    other.args(command.get_args().filter(|argument| *argument != "--stop-with-input"));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    other
}

#[test]
fn two_daemons_on_one_port() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert_told(
        &run(&["manager", "--insecure", "--bind", &address]).failed_with(1).unwrap(),
        &[&address, "manager"],
    );
    let cluster = cluster(ClusterOptions { workers: 1, ..ClusterOptions::default() });
    let scratch = cluster.folder().join("other");
    let ended = run(&[
        "worker",
        "--insecure",
        "--bind",
        &address,
        "--id",
        "other",
        "--manager",
        cluster.address(),
        "--scratch",
        scratch.to_str().unwrap(),
        "--cores",
        "1",
        "--executors",
        "1",
        "--memory",
        "256MiB",
    ]);
    assert_told(&ended.failed_with(1).unwrap(), &[&address]);
    assert_eq!(cluster.nodes().unwrap().len(), 1);
    cluster.stop().unwrap();
}

#[test]
fn a_client_of_another_version() {
    let cluster = cluster(ClusterOptions { workers: 1, ..ClusterOptions::default() });
    let wire_version = firesteel_base::version::WIRE + 1;
    runtime().block_on(async {
        let mut manager = ManagerClient::new(
            channel::connect(&Security::default(), channel::Server::Manager, cluster.address())
                .await
                .unwrap(),
        );
        let listed = manager.list_jobs(ListJobsRequest { wire_version, all: true }).await.unwrap_err();
        let submit = SubmitRequest { wire_version, sql: "select 1".to_owned(), ..SubmitRequest::default() };
        let submitted = manager.submit(submit).await.unwrap_err();
        for refusal in [listed, submitted] {
            let told = refusal.message();
            assert!(told.contains("version") && told.contains(&wire_version.to_string()), "{told}");
        }
    });
    let jobs = cluster.run(&["jobs", "--all", "--json"]).unwrap().succeeded().unwrap();
    assert!(!jobs.contains("select 1"), "{jobs}");
    cluster.stop().unwrap();
}

#[test]
fn mistakes_in_sql_are_told_the_same_way_by_a_cluster() {
    let mut cluster = cluster(ClusterOptions::default());
    for (sql, names) in [
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELECT nix FROM (VALUES (1)) v(x)", "nix"),
        ("SELECT no_such_function(1)", "no_such_function"),
        ("SELEC 1", "SELEC"),
        ("SELECT * FROM '/no/such/file.parquet'", "/no/such/file.parquet"),
    ] {
        let errors = cluster.run(&["sql", "-c", sql]).unwrap().failed_with(1).unwrap();
        let told = errors.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(told, 1, "{errors}");
        assert!(errors.contains(names), "{errors}");
    }
    // One that is noticed only while it runs, on an executor.
    let errors = cluster
        .run(&["sql", "-c", "SELECT sum(10 / (i - 500)) FROM generate_series(1, 1000) AS s(i)"])
        .unwrap()
        .failed_with(1)
        .unwrap();
    assert!(errors.to_lowercase().contains("divi"), "{errors}");
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}

#[test]
fn a_corrupt_file_is_named_and_nothing_half_written_is_left() {
    let mut cluster = cluster(ClusterOptions::default());
    let folder = cluster.folder().join("data");
    std::fs::create_dir(&folder).unwrap();
    let source = data::tpch(Scale::Tenth).unwrap();
    for part in ["part-000.parquet", "part-001.parquet"] {
        std::fs::copy(source.join("orders").join(part), folder.join(part)).unwrap();
    }
    // Rows are wrong in the middle of one file; its footer is sound, so only reading it tells.
    let bad = folder.join("part-001.parquet");
    let mut bytes = std::fs::read(&bad).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle..middle + 4096].fill(0xA5);
    std::fs::write(&bad, bytes).unwrap();
    let out = cluster.folder().join("out");
    let copy = format!(
        "COPY (SELECT * FROM '{}/' ORDER BY o_comment) TO '{}/copy.parquet' STORED AS PARQUET",
        folder.display(),
        out.display()
    );
    let errors = cluster.run(&["sql", "-c", &copy]).unwrap().failed_with(1).unwrap();
    assert!(errors.contains("part-001.parquet"), "{errors}");
    let left = files_below(&out).unwrap();
    assert!(left.is_empty(), "{left:?}");
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}

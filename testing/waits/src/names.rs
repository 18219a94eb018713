//! The names that the lint goes by.

/// Methods of libraries that end when somebody else does something, with how many arguments they take. Those of our own types by
/// these names are only told apart when they are called on `self`.
pub(crate) const AWAITED: &[(&str, usize)] = &[
    // channels, signals, tasks
    ("recv", 0),
    ("recv_many", 2),
    ("send", 1),
    ("reserve", 0),
    ("closed", 0),
    ("changed", 0),
    ("wait_for", 1),
    ("notified", 0),
    ("cancelled", 0),
    ("cancelled_owned", 0),
    ("join_next", 0),
    ("acquire", 0),
    ("acquire_owned", 0),
    ("acquire_many", 1),
    ("acquire_many_owned", 1),
    ("lock", 0),
    ("lock_owned", 0),
    ("wait", 0),
    ("get_or_init", 1),
    ("get_or_try_init", 1),
    // streams of rows and messages
    ("next", 0),
    ("try_next", 0),
    ("message", 0),
    ("feed", 1),
    ("collect", 0),
    ("try_collect", 0),
    // engines and stores of objects, which types of ours wrap
    ("sql", 1),
    ("create_physical_plan", 2),
    ("get_opts", 2),
    ("get_ranges", 2),
    ("put_opts", 3),
    ("put_multipart_opts", 2),
    ("list_with_delimiter", 1),
    ("copy_opts", 3),
    // sockets, pipes, children
    ("accept", 0),
    ("connect", 0),
    ("connect", 1),
    ("ready", 0),
    ("ready", 1),
    ("readable", 0),
    ("writable", 0),
    ("read", 1),
    ("read_buf", 1),
    ("read_exact", 1),
    ("read_line", 1),
    ("next_line", 0),
    ("read_to_end", 1),
    ("read_to_string", 1),
    ("write", 1),
    ("write_all", 1),
    ("flush", 0),
    ("shutdown", 0),
    ("kill", 0),
    ("output", 0),
    ("status", 0),
    ("wait_with_output", 0),
];

/// Methods of generated clients: the calls of `protocol/proto`. Servers have methods of the same names.
pub const CALLS: &[&str] = &[
    "append",
    "attach",
    "cancel_job",
    "drain_node",
    "driver_session",
    "fetch_result",
    "install_snapshot",
    "list_jobs",
    "list_nodes",
    "show",
    "show_job",
    "status",
    "submit",
    "undrain_node",
    "vote",
    "wait_job",
    "worker_session",
];

/// Methods that stop their thread.
pub(crate) const BLOCKING: &[(&str, usize)] = &[
    ("join", 0),
    ("recv", 0),
    ("wait", 0),
    ("wait", 1),
    ("wait_while", 2),
    ("wait_with_output", 0),
    ("block_on", 1),
    ("blocking_recv", 0),
    ("blocking_send", 1),
    ("blocking_lock", 0),
    ("submit_and_wait", 1),
    ("park", 0),
];

/// Methods that stop their thread on what files that name one of [`ENDS`] have.
pub(crate) const BLOCKING_ON_ENDS: &[(&str, usize)] = &[
    ("read", 1),
    ("read_exact", 1),
    ("read_line", 1),
    ("read_to_end", 1),
    ("read_to_string", 1),
    ("write_all", 1),
    ("accept", 0),
    ("output", 0),
    ("status", 0),
];

/// What has somebody at its other end.
pub(crate) const ENDS: &[&str] = &[
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "ChildStdin",
    "ChildStdout",
    "ChildStderr",
    "Command",
    "stdin",
    "pipe",
    "recvmsg",
    "sendmsg",
];

/// Functions that stop their thread.
pub(crate) const BLOCKING_CALLS: &[&str] =
    &["block_on", "park", "scope", "recvmsg", "sendmsg", "waitpid", "lookup_host", "to_socket_addrs"];

/// Functions that put a clock around the future that they are given last.
pub(crate) const TIMEOUTS: &[&str] = &["timeout", "timeout_at"];

/// Functions that end when a time is over.
pub(crate) const CLOCKS: &[&str] = &["sleep", "sleep_until", "timeout", "timeout_at"];

/// Functions whose future ends by itself.
pub(crate) const ENDING: &[&str] = &["yield_now", "ready"];

/// Functions and methods that give their work to another task or thread: no clock around the call reaches it.
pub(crate) const SPAWNS: &[&str] =
    &["spawn", "spawn_local", "spawn_blocking", "spawn_on", "spawn_blocking_on", "spawn_scoped"];

/// Functions that hand back the future that they are given.
pub(crate) const WRAPPERS: &[&str] =
    &["AssertUnwindSafe", "pin", "new_pin", "unconstrained", "fuse", "boxed"];

/// Methods whose future ends when their receiver does.
pub(crate) const ADAPTERS: &[&str] = &[
    "and_then",
    "as_mut",
    "boxed",
    "boxed_local",
    "catch_unwind",
    "fuse",
    "in_current_span",
    "inspect",
    "inspect_err",
    "instrument",
    "into_future",
    "left_future",
    "map",
    "map_err",
    "map_ok",
    "or_else",
    "right_future",
    "then",
    "unwrap_or_else",
];

/// Methods that say nothing of what they are called on.
pub(crate) const SILENT: &[&str] = &[
    "as_mut",
    "as_ref",
    "as_deref_mut",
    "borrow_mut",
    "by_ref",
    "clone",
    "expect",
    "iter_mut",
    "lock",
    "unwrap",
];

//! Executor and worker: core threads, attempts, memory, the daemon of a host.

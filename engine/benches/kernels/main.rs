//! What operators cost on one core: scans, filters, joins and aggregations as a session plans them, and the operators of our
//! own between cores and between stages. Throughput is in rows taken in.

mod data;
mod exchange;
mod queries;
mod session;

use firesteel_micro::run;

fn main() {
    run(include_str!("kernels.hashes"), &[queries::queries, exchange::local, exchange::shuffled]);
}

//! The executor and the worker at their public surfaces. One binary, because linking DataFusion takes long.

#![allow(clippy::unwrap_used)] // What a test sets up is there, or the test fails.

mod admission;
mod attempts;
mod drains;
mod driver;
mod drivers_come_and_go;
mod epochs;
mod groups;
mod limits;
mod manager;
mod plans;
mod worker;
mod worker_drivers;

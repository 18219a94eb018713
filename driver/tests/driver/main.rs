//! Sessions at their public surface: on this machine, and on clusters whose roles all live in this process. One binary,
//! because linking DataFusion takes long.

#![allow(clippy::unwrap_used)] // What a test sets up is there, or the test fails.

mod adaptive;
mod cluster;
mod endings;
mod faults;
mod local;
mod losses;
mod range_sorts;
mod submitted;
mod support;

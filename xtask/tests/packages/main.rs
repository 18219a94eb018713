//! The packages as whoever installs them finds them, made around a small program that stands for `firesteel`, and the units in them.

#![allow(clippy::unwrap_used)]

mod collection;
mod dist;
mod made;
mod units;

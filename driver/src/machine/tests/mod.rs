//! The machine, driven by scripts (one behaviour each) and by a random world.

mod adapting;
mod draining;
mod early;
mod scripts;
mod speculating;
mod world;

//! The executor and the worker at their public surfaces. One binary, because linking DataFusion takes long.

mod admission;
mod attempts;
mod driver;
mod drivers_come_and_go;
mod epochs;
mod limits;
mod manager;
mod plans;
mod worker;
mod worker_drivers;

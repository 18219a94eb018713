//! What the commands print: results in their formats, tables of things, progress.

pub mod destination;
pub mod format;
pub mod progress;
pub mod results;
pub mod table;
pub mod text;

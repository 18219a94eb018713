//! Blocks that outlive their executor: served by the worker of its host.
//!
//! ```text
//!   executor                                        worker
//!   BlockStore --news--> Reporter ==Unix socket==>  Estate --executor is gone--> BlockStore --> BlockServer
//!                        segments (memfd), places                 (adopted)
//! ```
//!
//! While an executor lives, it tells its worker's *keeper* of each committed map output where its frames lie: in which
//! segment, or in which file. It passes the segments' descriptors, so that their memory stays when it is gone; what it frees
//! it tells too. When it is gone, the keeper takes the frames for its own and serves them under the executor's name and
//! epoch, until their job has ended.
//!
//! Nothing here is waited for: an executor that dies before its news have arrived leaves blocks that are not found, and these
//! are computed again. A place that was told and used again since holds another frame: its checksum, which is of the frame's
//! block and number, is not the one that a reader expects.

mod estate;
mod inbox;
mod keeper;
mod news;
mod reporter;

pub use keeper::{Keeper, KeeperConfig, KeeperUsage};
pub use reporter::Reporter;

pub(crate) use estate::Estate;
pub(crate) use news::{KeptFrame, KeptLane, KeptPacking, KeptPlace, News};

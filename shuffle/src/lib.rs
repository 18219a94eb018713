//! Shuffle: the block format, writing, storing, serving and fetching.
//!
//! ```text
//!   batches --LaneWriter--> frames --BlockStore--> memory, then files
//!                                       |
//!              same executor: by pointer|    other executor: BlockServer --TCP------------> Fetcher
//!                                       |                             --shared memory-->    |
//!                                       +----------------> batches <-----------------------+
//! ```
//!
//! A *block* is what one lane of one attempt wrote for one partition; it is a sequence of *frames*, each one encoded
//! record batch. A frame is the same bytes in memory, in a file and on the wire (`FORMAT.md`, `PROTOCOL.md`). Executors of
//! one host look at it where it lies, in segments that the one who wrote it shares.
//!
//! Where a link or a disk is slower than packing, frames go packed: compressed as a whole, and unpacked by their reader (`pack`).
//!
//! Invariants: nothing of an attempt is readable before it is committed; bytes from outside are an error at worst,
//! never a panic and never an unbounded allocation; nothing waits without a deadline; this crate links neither tonic
//! nor DataFusion.

pub mod fetch;
pub mod format;
pub mod keep;
pub mod key;
pub mod pack;
pub mod partition;
mod segment;
pub mod serve;
mod sizes;
mod slice;
pub mod store;
mod sync;
pub mod take;
mod tls;
mod transport;
mod wire;
pub mod write;

pub use fetch::{FetchCause, FetchConfig, FetchCounters, FetchError, Fetcher};
pub use format::FormatError;
pub use key::{BlockKey, BlockStat, Holder, LaneOutput, MapOutput};
pub use pack::{Compression, Packing, ParseCompressionError};
pub use segment::SegmentUsage;
pub use serve::{BlockServer, ServeConfig};
pub use sizes::{LaneSizes, MalformedSizes, SizesParts};
pub use slice::{KeysOf, LanesOf, Part, Slice};
pub use store::{BlockStore, FileConfig, StoreConfig, StoreError, StoreUsage};
pub use take::{TakeError, take_over};
pub use transport::{ParseTransportError, Transport};
pub use write::{Assignment, LaneWriter, WriteCounters, WriteError};

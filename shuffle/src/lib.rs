//! Shuffle: the block format, writing, storing, serving and fetching.

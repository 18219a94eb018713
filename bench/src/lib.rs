//! Data generation, benchmark runs and micro benches.

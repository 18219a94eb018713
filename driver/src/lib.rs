//! The driver: the job machine, its shell, results, and the user's library.

//! Test drivers: process clusters, oracles and sqllogictest runners.

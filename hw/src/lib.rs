//! The hardware: topology, pinning, NUMA memory, core loops, rings and what this machine can do.

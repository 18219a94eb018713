//! The cluster manager: nodes, leases, queues, placement and its journal.

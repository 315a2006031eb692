//! Docker on this machine: config file, contexts, credential store, Engine API.

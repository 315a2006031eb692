//! The contract with the docker command line: metadata, argv form, cancel socket.

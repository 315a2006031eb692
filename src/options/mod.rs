//! The values of flags: parse, display, no I/O.

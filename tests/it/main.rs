//! Integration tests.

mod help;

//! Integration tests.

mod engine;
mod help;
mod tls;

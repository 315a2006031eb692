//! Integration tests.

mod engine;
mod help;

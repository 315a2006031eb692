//! Causes of builds that differ in one thing, and each form of what is shown.

mod builds;
mod recorded;
mod twins;
mod words;

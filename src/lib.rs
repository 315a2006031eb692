//! `docker cachex`: a BuildKit client whose registry build cache is fast, safe and visible.
//!
//! # The way of a build
//!
//! ```text
//! argv ─ cli ─▶ options (typed, pure) ─▶ builder (which node, boot it, byte stream) ─▶ buildkit (Control + Gateway client)
//!                                                                                     │ serves session: auth, filesync,
//!                                                                                     │ content, secrets, ssh, filesend
//!  status stream ─▶ progress (model ─▶ tty | plain | rawjson | quiet)                  ▼
//!                                                                        image, files, registry cache
//! ```
//!
//! With `via=client` BuildKit exports the cache to the session's content store, whose other end is
//! the registry: [`cache::export`]. What is finished is exported while the build runs
//! ([`build::cache::early`]), and published when the build fails.
//!
//! `auto` is `builder` for `via` and for `compressor`, by the figures of `scripts/bench`: a cold export
//! through the client takes 1.1 to 1.4 times as long as one by the builder, because each byte crosses the
//! connection to the builder first, and the registry may be one that only the builder reaches. `via=client`
//! wins over a long line to the registry and where steps leave a core idle; it is chosen where only this
//! program can do what is asked (`merge`, bounds, `compressor=client`). `compressor=client` is never chosen:
//! layers taken uncompressed stay so in the builder.
//!
//! # Rooms
//!
//! Each room may use the rooms named behind it and nothing above it.
//!
//! | room | holds | may use |
//! |---|---|---|
//! | [`cli`] | one file per command: arguments, resolve to a typed request, call, render | all below |
//! | [`build`] | a build: request, context, caches, mounts, output, plan, run, explanation | [`options`], [`cache`], [`explain`], [`mounts`], [`report`], [`registry`], [`buildkit`] |
//! | [`plugin`] | metadata handshake, plugin argv form, cancel socket, buildx's name and the real buildx behind it | – |
//! | [`options`] | the values of flags: parse, display, no I/O | [`mod@reference`] |
//! | [`scope`] | which caches a build reads and writes, by CI and git | – |
//! | [`docker`] | config file, contexts, credential store, registry tokens, Engine API | – |
//! | [`builder`] | instances, drivers, boot, byte stream to buildkitd | [`docker`], [`options`] |
//! | [`buildkit`] | gRPC client: control, gateway, session services | [`fsutil`], [`docker`] |
//! | [`fsutil`] | DiffCopy: walk, pattern matcher, follow links, send, receive | – |
//! | [`cache`] | **the heart**: model, export, import and publishing of the registry cache | [`buildkit`], [`forge`], [`registry`], [`compress`], [`fsutil`], [`mounts`], [`options`] |
//! | [`mounts`] | the tree of a cache mount as packs and an index | [`mod@digest`] |
//! | [`explain`] | why steps ran: causes, and their text | [`cache`] |
//! | [`report`] | the report of a build: model; md, json, html | [`explain`], [`progress`], [`cache`] |
//! | [`forge`] | what hosts of repositories and registries do by APIs of their own | [`docker`], [`registry`] |
//! | [`registry`] | client, auth, upload, download, retry | [`docker`] |
//! | [`compress`] | gzip and zstd on all cores, digests on both sides | [`mod@digest`] |
//! | [`progress`] | model of a build, one renderer a file | [`buildkit`] status types |
//! | [`platform`] | what differs between operating systems | – |
//! | [`child`] | programs that are started, without the keys that sign caches | [`mod@env`] |
//! | [`mod@later`] | answers that are on their way while other things are got ready | – |
//! | [`output_file`] | files that the user names as outputs: what is replaced, written through or refused | – |
//! | [`mod@reference`], [`digest`] | references and digests as values | – |
//! | [`ui`], [`error`], [`exit`], [`mod@env`], [`text`] | terminal output, errors, exit codes, environment, figures in words, others' text, Go's JSON | – |
//! | [`for_tests`] | what `tests/it` and `benches` use: all that this library exports besides [`main`] | all |
//!
//! Core rooms never read the environment, the home folder or the terminal: values are passed in.

pub(crate) mod build;
pub(crate) mod builder;
pub(crate) mod buildkit;
pub(crate) mod cache;
pub(crate) mod child;
pub(crate) mod cli;
pub(crate) mod compress;
pub(crate) mod digest;
pub(crate) mod docker;
pub(crate) mod env;
pub(crate) mod error;
pub(crate) mod exit;
pub(crate) mod explain;
#[doc(hidden)]
pub mod for_tests;
pub(crate) mod forge;
pub(crate) mod fsutil;
pub(crate) mod later;
pub(crate) mod mounts;
pub(crate) mod options;
pub(crate) mod output_file;
pub(crate) mod platform;
pub(crate) mod plugin;
pub(crate) mod progress;
pub(crate) mod reference;
pub(crate) mod registry;
pub(crate) mod report;
pub(crate) mod scope;
#[cfg(test)]
mod testing;
pub(crate) mod text;
pub(crate) mod ui;

pub use cli::main;

//! Where the results of a build go.
//!
//! | file | holds |
//! |---|---|
//! | [`exporters`] | BuildKit's exporters and where their bytes go |
//! | [`layout`] | an image in an OCI layout folder |
//! | [`load`] | images into the image store of an engine |
//! | [`local_delete`] | what a local output may delete |
//! | [`index`] | the results of several nodes as one index |
//! | [`metadata`], [`provenance`] | image identifier and metadata file, and what it says about how the image was made |

pub mod exporters;
pub mod index;
pub mod layout;
pub mod load;
pub mod local_delete;
pub mod metadata;
pub mod provenance;

//! An image that a build writes to a layout folder (`--output type=oci,tar=false`).
//!
//! BuildKit writes the blobs through the content store [`STORE`] of the session; the client enters the
//! image into the folder's index afterwards (BuildKit `exporter/oci`, `client/solve.go`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use super::exporters::{Export, Sink};
use super::index::DESCRIPTOR;
use crate::buildkit::session::content::ContentStores;
use crate::cache::descriptor::Descriptor;
use crate::cache::layout::{EntryName, Layout, LayoutError, LayoutStore};
use crate::reference::DEFAULT_TAG;

/// The identifier that BuildKit gives the content store of results.
const STORE: &str = "export";
/// Exporter answer with the names of the image, with commas.
const IMAGE_NAME: &str = "image.name";

/// Why the result was not written to its folder.
#[derive(Debug, Error)]
#[error("failed to write the image to the folder {folder:?}")]
pub struct LayoutOutputError {
    /// The folder.
    pub folder: PathBuf,
    /// Why.
    #[source]
    pub source: LayoutError,
}

/// The folder of the build's output with `tar=false`.
#[derive(Debug)]
pub struct LayoutOutput {
    folder: PathBuf,
    layout: Layout,
}

impl LayoutOutput {
    /// Creates the folder and offers it in the session. Returns none if no output needs one.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be written.
    pub fn open(
        exports: &[Export],
        stores: &ContentStores,
    ) -> Result<Option<Self>, LayoutOutputError> {
        let Some(folder) = exports.iter().find_map(|export| match &export.sink {
            Sink::Layout(folder) => Some(folder.clone()),
            _ => None,
        }) else {
            return Ok(None);
        };
        let layout = Layout::new(&folder);
        if let Err(source) = layout.create() {
            return Err(LayoutOutputError { folder, source });
        }
        stores.add(STORE, Arc::new(LayoutStore::new(layout.clone())));
        Ok(Some(Self { folder, layout }))
    }

    /// Enters the image into the folder's index under each of its names, or as `latest`.
    ///
    /// # Errors
    ///
    /// Fails if the exporters' answer holds no image, or the index cannot be written; it is then as it was.
    pub async fn publish(
        &self,
        response: &BTreeMap<String, String>,
    ) -> Result<(), LayoutOutputError> {
        let (layout, image) = (self.layout.clone(), descriptor(response));
        let names = response.get(IMAGE_NAME).cloned().unwrap_or_default();
        let written = tokio::task::spawn_blocking(move || {
            let names: Vec<EntryName<'_>> = match names.as_str() {
                "" => vec![EntryName::tag(DEFAULT_TAG)],
                names => names.split(',').map(EntryName::image).collect(),
            };
            layout.put(&image?, &names)
        });
        let written = written.await.map_err(std::io::Error::other);
        written
            .map_err(LayoutError::from)
            .flatten()
            .map_err(|source| LayoutOutputError {
                folder: self.folder.clone(),
                source,
            })
    }
}

/// Reads the descriptor of the image out of the exporters' answer.
fn descriptor(response: &BTreeMap<String, String>) -> Result<Descriptor, LayoutError> {
    let wrong = |why: &dyn std::fmt::Display| {
        std::io::Error::other(format!("the builder does not describe the image: {why}"))
    };
    let text = response
        .get(DESCRIPTOR)
        .ok_or_else(|| wrong(&format!("{DESCRIPTOR} is missing")))?;
    let json = STANDARD.decode(text).map_err(|error| wrong(&error))?;
    Ok(serde_json::from_slice(&json).map_err(|error| wrong(&error))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buildkit::solve::Entry;
    use crate::digest::Digest;

    fn exports(folder: &std::path::Path) -> Vec<Export> {
        vec![Export {
            entry: Entry {
                kind: "oci".into(),
                attrs: BTreeMap::new(),
            },
            sink: Sink::Layout(folder.to_owned()),
        }]
    }

    fn response(names: &str) -> BTreeMap<String, String> {
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let image = Descriptor::new(media_type, Digest::of(names.as_bytes()), 3);
        let image = STANDARD.encode(serde_json::to_vec(&image).unwrap());
        let mut response = BTreeMap::from([(DESCRIPTOR.to_owned(), image)]);
        if !names.is_empty() {
            response.insert(IMAGE_NAME.into(), names.into());
        }
        response
    }

    #[tokio::test]
    async fn the_image_has_each_of_its_names_or_is_the_latest() {
        let dir = tempfile::tempdir().unwrap();
        let stores = ContentStores::default();
        let output = LayoutOutput::open(&exports(dir.path()), &stores).unwrap();
        let output = output.unwrap();
        output.publish(&response("")).await.unwrap();
        let names = "docker.io/library/a:1,r.io:5000/b@sha256:00";
        output.publish(&response(names)).await.unwrap();
        let tagged = |tag: &str| output.layout.tagged(tag).unwrap().map(|found| found.digest);
        assert_eq!(tagged("latest"), Some(Digest::of(b"")));
        for name in [
            "1",
            "docker.io/library/a:1",
            "r.io:5000/b@sha256:00",
            "@sha256:00",
        ] {
            assert_eq!(tagged(name), Some(Digest::of(names.as_bytes())), "{name}");
        }
        assert_eq!(output.layout.entries().unwrap().len(), 3);
        // Another image takes the name, and only that.
        output
            .publish(&response("docker.io/library/a:1"))
            .await
            .unwrap();
        assert_eq!(output.layout.entries().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn an_answer_without_an_image_is_an_error_and_the_index_stays() {
        let dir = tempfile::tempdir().unwrap();
        let stores = ContentStores::default();
        let output = LayoutOutput::open(&exports(dir.path()), &stores).unwrap();
        let output = output.unwrap();
        output.publish(&response("")).await.unwrap();
        for broken in ["", "%", "e30="] {
            let response = BTreeMap::from([(DESCRIPTOR.to_owned(), broken.to_owned())]);
            output.publish(&response).await.unwrap_err();
        }
        output.publish(&BTreeMap::new()).await.unwrap_err();
        assert_eq!(output.layout.entries().unwrap().len(), 1);
    }

    #[test]
    fn without_such_an_output_there_is_none() {
        assert!(
            LayoutOutput::open(&[], &ContentStores::default())
                .unwrap()
                .is_none()
        );
    }
}

//! The outputs of a build turned into BuildKit's exporters and the places their bytes go to.
//!
//! Exporter names and attributes follow BuildKit's `exporter/*` and buildx's choice among them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use thiserror::Error;

use crate::buildkit::solve::Entry;
use crate::options::output::{Dest, Output, OutputType};
use crate::options::tag::{self, Tag};

/// Exporter attribute of an image that is known by the digest of its manifest.
const PREFER_IMAGE_DIGEST: &str = "prefer-image-digest";

/// Where the bytes of an exporter go on this side of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// Nowhere: BuildKit keeps or pushes the result itself.
    None,
    /// Into one file that is made when the first byte comes.
    File(PathBuf),
    /// To standard output.
    Stdout,
    /// Into a folder.
    Folder {
        /// The folder, made if it does not exist.
        path: PathBuf,
        /// Remove what the result does not hold.
        delete: bool,
    },
    /// Into an OCI image layout folder, through a content store of the session.
    Layout(PathBuf),
    /// Into the image store of the Docker Engine of this docker context (empty: the current one).
    Load {
        /// Name of the docker context.
        context: String,
    },
}

/// One exporter and its sink. The place in the list is the exporter's identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// What BuildKit is asked for.
    pub entry: Entry,
    /// Where its bytes go.
    pub sink: Sink,
}

/// Why the outputs cannot be served.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ExportError {
    /// A push without a name.
    #[error("tag is needed when pushing to registry")]
    PushWithoutTag,
    /// The classic image store of an engine holds no indexes.
    #[error("docker exporter does not currently support exporting manifest lists")]
    ListToDocker,
    /// A tarball in Docker's format holds no indexes.
    #[error(
        "docker exporter does not support exporting manifest lists, use the oci exporter instead"
    )]
    ListToDockerFile,
    /// Binary data would spoil the terminal.
    #[error("dest file is required for {0} exporter. refusing to write to console")]
    Terminal(&'static str),
    /// The destination of a folder output is a file, or the reverse.
    #[error("destination {kind} {path:?} is a {found}")]
    WrongKind {
        /// `directory` or `file`: what is needed.
        kind: &'static str,
        /// The destination.
        path: PathBuf,
        /// `file` or `directory`: what it is.
        found: &'static str,
    },
    /// The daemon takes one exporter alone.
    #[error(
        "multiple outputs currently unsupported by the current BuildKit daemon, please upgrade to version v0.13+ or use a single output"
    )]
    Several,
    /// BuildKit knows one content store for results, so one layout folder.
    #[error("only one output with tar=false is possible")]
    SeveralLayouts,
}

/// What decides how outputs are made.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExportFacts {
    /// The engine that images are loaded into imports OCI layouts (it has the containerd store).
    pub engine_imports_oci: bool,
    /// The result is an index: several platforms or attestations were asked for.
    pub result_is_list: bool,
    /// Standard output is a terminal.
    pub stdout_is_terminal: bool,
    /// The builder may hold layers as uncompressed blobs, which an image must not be made of.
    pub recompress: bool,
    /// The builder may hold layers as zstd, which an image must not be made of unless it is asked for.
    pub has_zstd: bool,
}

/// Turns outputs into exporters. `type=cacheonly` makes none.
///
/// # Errors
///
/// Fails if an output contradicts the facts or is of a form that is not served.
pub fn plan(
    outputs: &[Output],
    tags: &[Tag],
    annotations: &BTreeMap<String, String>,
    facts: ExportFacts,
) -> Result<Vec<Export>, ExportError> {
    let exports: Vec<Export> = outputs
        .iter()
        .filter(|output| output.kind != OutputType::CacheOnly)
        .map(|output| export(output, tags, annotations, facts))
        .collect::<Result<_, _>>()?;
    let layouts = exports.iter().filter(|e| matches!(e.sink, Sink::Layout(_)));
    if layouts.count() > 1 {
        return Err(ExportError::SeveralLayouts);
    }
    Ok(exports)
}

/// Takes the digest of the config out of the answer where the image is known by that of its manifest,
/// as buildx does: it would be taken for the image's identifier.
pub fn drop_config_digest(exports: &[Export], response: &mut BTreeMap<String, String>) {
    let attr =
        |e: &Export| e.entry.attrs.get(PREFER_IMAGE_DIGEST).map(String::as_str) == Some("true");
    if exports.iter().any(attr) {
        response.remove(super::metadata::CONFIG_DIGEST);
    }
}

fn export(
    output: &Output,
    tags: &[Tag],
    annotations: &BTreeMap<String, String>,
    facts: ExportFacts,
) -> Result<Export, ExportError> {
    let mut attrs = output.attrs.clone();
    attrs.extend(annotations.iter().map(|(k, v)| (k.clone(), v.clone())));
    if output.is_image() {
        if let Some(names) = tag::attr(tags) {
            attrs.insert("name".into(), names);
        } else if output.pushes() && attrs.get("name").is_none_or(String::is_empty) {
            return Err(ExportError::PushWithoutTag);
        }
    }
    let wants_zstd = attrs.get("compression").is_some_and(|kind| kind == "zstd");
    let recompress = facts.recompress || (facts.has_zstd && !wants_zstd);
    if recompress && output.is_image() {
        attrs
            .entry("force-compression".into())
            .or_insert_with(|| "true".into());
    }
    let mut kind = output.kind.as_str();
    let mut sink = sink(output, facts)?;
    if output.kind == OutputType::Docker {
        if let Sink::None = sink {
            sink = Sink::Load {
                context: attrs.remove("context").unwrap_or_default(),
            };
            if facts.engine_imports_oci {
                kind = "oci";
                // The containerd store names images by the digest of their manifest.
                attrs.insert(PREFER_IMAGE_DIGEST.into(), "true".into());
            } else if facts.result_is_list {
                return Err(ExportError::ListToDocker);
            }
        } else if facts.result_is_list {
            return Err(ExportError::ListToDockerFile);
        }
    }
    Ok(Export {
        entry: Entry {
            kind: kind.to_owned(),
            attrs,
        },
        sink,
    })
}

/// Adds what a build argument and the environment ask for to the exporters that make images.
pub fn add_image_attrs(exports: &mut [Export], buildinfo: Option<&str>, no_oci_artifact: bool) {
    for export in exports {
        let entry = &mut export.entry;
        let kind = entry.kind.as_str();
        if let Some(attrs) = buildinfo.filter(|_| matches!(kind, "docker" | "image" | "oci")) {
            let attrs = attrs.to_owned();
            entry.attrs.insert("buildinfo-attrs".into(), attrs);
        }
        if no_oci_artifact && matches!(kind, "image" | "oci") {
            let artifact = entry.attrs.entry("oci-artifact".into());
            artifact.or_insert_with(|| "false".into());
        }
    }
}

fn sink(output: &Output, facts: ExportFacts) -> Result<Sink, ExportError> {
    let name = output.kind.as_str();
    match &output.dest {
        None => Ok(Sink::None),
        Some(Dest::Stdout) if facts.stdout_is_terminal => Err(ExportError::Terminal(name)),
        Some(Dest::Stdout) => Ok(Sink::Stdout),
        Some(Dest::Path(path)) => {
            let is_dir = path.is_dir();
            let path = path.clone();
            if output.writes_folder() {
                if path.exists() && !is_dir {
                    return Err(ExportError::WrongKind {
                        kind: "directory",
                        path,
                        found: "file",
                    });
                }
                if output.kind != OutputType::Local {
                    return Ok(Sink::Layout(path));
                }
                return Ok(Sink::Folder {
                    path,
                    delete: output.deletes(),
                });
            }
            if is_dir {
                return Err(ExportError::WrongKind {
                    kind: "file",
                    path,
                    found: "directory",
                });
            }
            Ok(Sink::File(path))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_one(value: &str, tags: &[&str], facts: ExportFacts) -> Result<Export, ExportError> {
        let tags = Tag::parse_list(tags).unwrap();
        let output = Output::parse(value).unwrap();
        plan(&[output], &tags, &BTreeMap::new(), facts).map(|mut exports| exports.remove(0))
    }

    #[test]
    fn tags_name_every_image() {
        for value in [
            "type=image",
            "type=oci,dest=x.tar",
            "type=docker,dest=x.tar",
        ] {
            let export = plan_one(value, &["a:1", "b"], ExportFacts::default()).unwrap();
            assert_eq!(export.entry.attrs["name"], "a:1,b", "{value}");
        }
        let tar = plan_one("type=tar,dest=x.tar", &["a"], ExportFacts::default()).unwrap();
        assert!(!tar.entry.attrs.contains_key("name"));
    }

    #[test]
    fn push_needs_a_name() {
        let facts = ExportFacts::default();
        assert_eq!(
            plan_one("type=registry", &[], facts),
            Err(ExportError::PushWithoutTag)
        );
        assert!(plan_one("type=registry,name=r/a", &[], facts).is_ok());
        assert!(plan_one("type=image", &[], facts).is_ok());
    }

    #[test]
    fn load_takes_the_form_that_the_engine_imports() {
        let classic = plan_one("type=docker", &["a"], ExportFacts::default()).unwrap();
        assert_eq!(classic.entry.kind, "docker");
        assert_eq!(
            classic.sink,
            Sink::Load {
                context: String::new()
            }
        );
        let facts = ExportFacts {
            engine_imports_oci: true,
            ..Default::default()
        };
        let containerd = plan_one("type=docker,context=other", &["a"], facts).unwrap();
        assert_eq!(containerd.entry.kind, "oci");
        assert_eq!(containerd.entry.attrs["prefer-image-digest"], "true");
        assert_eq!(
            containerd.sink,
            Sink::Load {
                context: "other".into()
            }
        );
        let list = ExportFacts {
            result_is_list: true,
            ..Default::default()
        };
        assert_eq!(
            plan_one("type=docker", &["a"], list),
            Err(ExportError::ListToDocker)
        );
    }

    #[test]
    fn destinations_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs_err::write(&file, "").unwrap();
        let facts = ExportFacts {
            stdout_is_terminal: true,
            ..Default::default()
        };
        let error = |value: &str| plan_one(value, &[], facts).unwrap_err().to_string();
        assert!(error(&format!("type=local,dest={}", file.display())).ends_with("is a file"));
        assert!(error(&format!("type=tar,dest={}", dir.path().display())).ends_with("directory"));
        assert!(error("type=tar").contains("refusing to write to console"));
        for kind in ["oci", "docker"] {
            let export = plan_one(
                &format!("type={kind},tar=false,dest=new"),
                &[],
                ExportFacts::default(),
            );
            let export = export.unwrap();
            assert_eq!(export.sink, Sink::Layout(PathBuf::from("new")));
            assert_eq!(export.entry.attrs["tar"], "false");
        }
        let two = ["type=oci,tar=false,dest=x", "type=oci,tar=false,dest=y"];
        let two = Output::parse_list(&two).unwrap();
        let two = plan(&two, &[], &BTreeMap::new(), ExportFacts::default());
        assert_eq!(two, Err(ExportError::SeveralLayouts));
    }

    #[test]
    fn images_take_what_the_environment_asks_for() {
        let make = |value: &str| plan_one(value, &["a"], ExportFacts::default()).unwrap();
        let mut exports = [
            "type=image",
            "type=oci,dest=x,oci-artifact=true",
            "type=docker,dest=x",
            "type=tar,dest=x",
        ]
        .map(make);
        add_image_attrs(&mut exports, Some("true"), true);
        let of = |key: &str| -> Vec<Option<&str>> {
            let attrs = exports.iter().map(|e| &e.entry.attrs);
            attrs.map(|a| a.get(key).map(String::as_str)).collect()
        };
        let on = Some("true");
        assert_eq!(of("buildinfo-attrs"), [on, on, on, None]);
        assert_eq!(of("oci-artifact"), [Some("false"), on, None, None]);
    }

    #[test]
    fn images_of_a_builder_with_uncompressed_layers_are_compressed_anew() {
        let facts = ExportFacts {
            recompress: true,
            ..Default::default()
        };
        let forced = |value: &str| {
            let export = plan_one(value, &["a"], facts).unwrap();
            export.entry.attrs.get("force-compression").cloned()
        };
        assert_eq!(forced("type=image").as_deref(), Some("true"));
        assert_eq!(forced("type=docker,dest=x.tar").as_deref(), Some("true"));
        let asked = forced("type=image,force-compression=false");
        assert_eq!(asked.as_deref(), Some("false"));
        assert_eq!(forced("type=tar,dest=x.tar"), None);
    }

    #[test]
    fn images_of_a_builder_with_zstd_layers_are_what_they_would_be_without() {
        let facts = ExportFacts {
            has_zstd: true,
            ..Default::default()
        };
        for (value, forced) in [
            ("type=image", Some("true")),
            ("type=docker,dest=x.tar", Some("true")),
            ("type=oci,dest=x.tar,compression=gzip", Some("true")),
            ("type=image,compression=zstd", None),
            ("type=image,force-compression=false", Some("false")),
            ("type=local,dest=x", None),
        ] {
            let export = plan_one(value, &["a"], facts).unwrap();
            let attr = export.entry.attrs.get("force-compression");
            assert_eq!(attr.map(String::as_str), forced, "{value}");
        }
    }

    #[test]
    fn cacheonly_is_no_exporter() {
        let outputs = [Output::parse("type=cacheonly").unwrap()];
        let exports = plan(&outputs, &[], &BTreeMap::new(), ExportFacts::default());
        assert_eq!(exports, Ok(vec![]));
    }
}

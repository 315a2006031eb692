//! `--output`, `--push` and `--load`: what becomes of the result.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::boolean::parse_bool;
use super::csv::{self, KeyValues, Writer};
use super::error::{OptionError, Problem};

/// The kind of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputType {
    /// An image in the builder or, with `push=true`, in a registry.
    Image,
    /// A Docker image: loaded into an engine, or a tarball or folder where it has a destination.
    Docker,
    /// An OCI layout as tarball or folder.
    Oci,
    /// The result's files as tarball.
    Tar,
    /// The result's files in a folder.
    Local,
    /// Nothing but the cache; BuildKit never sees this.
    CacheOnly,
}

impl OutputType {
    /// The words of the key `type`; `registry` is an image that is pushed.
    const WORDS: [(&'static str, Self); 7] = [
        ("image", Self::Image),
        ("docker", Self::Docker),
        ("oci", Self::Oci),
        ("tar", Self::Tar),
        ("local", Self::Local),
        ("cacheonly", Self::CacheOnly),
        ("registry", Self::Image),
    ];

    /// Returns BuildKit's name of the exporter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Docker => "docker",
            Self::Oci => "oci",
            Self::Tar => "tar",
            Self::Local => "local",
            Self::CacheOnly => "cacheonly",
        }
    }
}

/// Where the bytes of an output go on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dest {
    /// To standard output. Whether that is a terminal (which must be refused) the caller knows.
    Stdout,
    /// To a file, or to a folder where [`Output::writes_folder`] says so.
    Path(PathBuf),
}

/// One output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The kind.
    pub kind: OutputType,
    /// The attributes for BuildKit, without `type` and `dest`.
    pub attrs: BTreeMap<String, String>,
    /// Where to; always there for `local`, `tar` and `oci`, optional for `docker`, never there for
    /// the others.
    pub dest: Option<Dest>,
}

impl Output {
    /// Returns whether it is an image, wherever it goes.
    pub fn is_image(&self) -> bool {
        matches!(
            self.kind,
            OutputType::Image | OutputType::Oci | OutputType::Docker
        )
    }

    /// Parses the value of one `--output`: a folder, `-` for a tarball to standard output, or
    /// fields with a `type`.
    pub fn parse(value: &str) -> Result<Self, OptionError> {
        let fields = csv::fields(value)?;
        let bare = fields.len() == 1
            && fields.first().is_some_and(|field| field.text == value)
            && !value.starts_with("type=");
        if bare && value == "-" {
            return Ok(Self::plain(OutputType::Tar, Some(Dest::Stdout)));
        }
        if bare {
            return Ok(Self::plain(
                OutputType::Local,
                Some(Dest::Path(PathBuf::from(value))),
            ));
        }
        Self::from_pairs(KeyValues::parse(value)?)
    }

    /// Parses the values of all `--output` flags; empty ones are skipped. At most one output may go
    /// to standard output.
    pub fn parse_list<S: AsRef<str>>(values: &[S]) -> Result<Vec<Self>, OptionError> {
        let outputs = values
            .iter()
            .map(AsRef::as_ref)
            .filter(|value| !value.is_empty())
            .map(Self::parse)
            .collect::<Result<Vec<_>, _>>()?;
        let to_stdout = outputs
            .iter()
            .filter(|output| output.dest == Some(Dest::Stdout));
        if to_stdout.count() > 1 {
            return Err(OptionError::other(
                "more than one output writes to standard output",
            ));
        }
        Ok(outputs)
    }

    /// Returns whether the result is pushed to a registry.
    pub fn pushes(&self) -> bool {
        self.kind == OutputType::Image && self.is_on("push")
    }

    /// Returns whether an attribute of an image is switched on; one without a value is, as in BuildKit.
    pub fn is_on(&self, key: &str) -> bool {
        self.attrs
            .get(key)
            .is_some_and(|on| on.is_empty() || parse_bool(on) == Some(true))
    }

    /// Returns whether the result is loaded into a Docker engine.
    pub fn loads(&self) -> bool {
        self.kind == OutputType::Docker && self.dest.is_none()
    }

    /// Returns whether the destination is a folder (else it is one file): for `local`, and for `oci`
    /// and `docker` with `tar=false`.
    pub fn writes_folder(&self) -> bool {
        match self.kind {
            OutputType::Local => true,
            OutputType::Oci | OutputType::Docker => self
                .attrs
                .get("tar")
                .is_some_and(|on| parse_bool(on) == Some(false)),
            OutputType::Image | OutputType::Tar | OutputType::CacheOnly => false,
        }
    }

    /// Returns whether a `local` output removes what is in its folder and not in the result
    /// (`mode=delete`).
    pub fn deletes(&self) -> bool {
        self.kind == OutputType::Local
            && self
                .attrs
                .get("mode")
                .is_some_and(|mode| mode.trim().eq_ignore_ascii_case("delete"))
    }

    fn plain(kind: OutputType, dest: Option<Dest>) -> Self {
        Self {
            kind,
            attrs: BTreeMap::new(),
            dest,
        }
    }

    fn from_pairs(mut pairs: KeyValues) -> Result<Self, OptionError> {
        pairs.trim_keys();
        let word = pairs.take_required("type")?;
        let kind = csv::one_of("type", &word, &OutputType::WORDS).map_err(|e| pairs.error(e))?;
        let mut output = Self::plain(kind, None);
        let dest = pairs.take("dest").filter(|dest| !dest.is_empty());
        output.attrs = pairs
            .clone()
            .rest()
            .into_iter()
            .map(|pair| (pair.key, pair.value))
            .collect();
        if word == "registry" {
            output.set_push();
        }
        output.dest = output
            .checked_dest(dest)
            .map_err(|error| pairs.error(error))?;
        output.check_mode().map_err(|error| pairs.error(error))?;
        Ok(output)
    }

    /// Makes an image output push. What is only pushed need not be unpacked in the builder.
    fn set_push(&mut self) {
        self.attrs.insert("push".to_owned(), "true".to_owned());
        self.attrs
            .entry("unpack".to_owned())
            .or_insert_with(|| "false".to_owned());
    }

    fn checked_dest(&self, dest: Option<String>) -> Result<Option<Dest>, OptionError> {
        let name = self.kind.as_str();
        match dest {
            Some(_) if matches!(self.kind, OutputType::Image | OutputType::CacheOnly) => Err(
                OptionError::other(format!("dest cannot be used with type={name}")),
            ),
            None if self.writes_folder() => Err(OptionError::other(format!(
                "dest is required for type={name}"
            ))),
            Some(dest) if self.writes_folder() && dest == "-" => Err(OptionError::other(format!(
                "dest of type={name} is a folder and cannot be standard output"
            ))),
            Some(dest) if dest == "-" => Ok(Some(Dest::Stdout)),
            Some(dest) => Ok(Some(Dest::Path(PathBuf::from(dest)))),
            None if matches!(self.kind, OutputType::Oci | OutputType::Tar) => {
                Ok(Some(Dest::Stdout))
            }
            None => Ok(None),
        }
    }

    fn check_mode(&self) -> Result<(), OptionError> {
        let Some(mode) = self
            .attrs
            .get("mode")
            .filter(|_| self.kind == OutputType::Local)
        else {
            return Ok(());
        };
        match mode.trim().to_lowercase().as_str() {
            "" | "copy" | "delete" => Ok(()),
            _ => Err(OptionError::new(Problem::BadValue {
                key: "mode".to_owned(),
                value: mode.clone(),
                expected: "copy or delete".to_owned(),
            })),
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writer = Writer::new();
        writer.pair("type", self.kind.as_str());
        match &self.dest {
            Some(Dest::Stdout) => writer.pair("dest", "-"),
            Some(Dest::Path(path)) => writer.pair("dest", &path.to_string_lossy()),
            None => {}
        }
        for (key, value) in &self.attrs {
            writer.pair(key, value);
        }
        f.write_str(&writer.finish())
    }
}

/// Adds what `--push` and `--load` ask for: `--push` makes every image output push, or adds one that
/// does; `--load` adds a Docker image that is loaded, unless there is one.
///
/// A `type=docker` output with a destination does not count as loaded: buildx takes `--load` for
/// done there, though nothing is loaded.
pub fn apply_push_load(mut outputs: Vec<Output>, push: bool, load: bool) -> Vec<Output> {
    if push {
        let images = |output: &&mut Output| output.kind == OutputType::Image;
        let mut any = false;
        for output in outputs.iter_mut().filter(images) {
            output.set_push();
            any = true;
        }
        if !any {
            let mut output = Output::plain(OutputType::Image, None);
            output.set_push();
            outputs.push(output);
        }
    }
    if load && !outputs.iter().any(Output::loads) {
        outputs.push(Output::plain(OutputType::Docker, None));
    }
    outputs
}

#[cfg(test)]
mod tests;

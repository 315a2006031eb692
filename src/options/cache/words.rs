//! The words that the keys of a registry cache take.

/// Which results a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The layers of the result only.
    #[default]
    Min,
    /// The layers of every step.
    Max,
}

impl Mode {
    pub(super) const WORDS: [(&'static str, Self); 2] = [("min", Self::Min), ("max", Self::Max)];

    /// Returns the value of the key `mode`.
    pub fn as_str(self) -> &'static str {
        word(&Self::WORDS, self)
    }
}

/// How the layers of a cache are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// gzip, BuildKit's default; levels 0 to 9.
    #[default]
    Gzip,
    /// Seekable gzip with a table of contents; levels 0 to 9.
    Estargz,
    /// Zstandard; levels 0 to 22.
    Zstd,
    /// Plain tar.
    Uncompressed,
    /// The image's own for the layers of the result, Zstandard for the others.
    Auto,
}

impl Compression {
    pub(super) const WORDS: [(&'static str, Self); 5] = [
        ("auto", Self::Auto),
        ("gzip", Self::Gzip),
        ("estargz", Self::Estargz),
        ("zstd", Self::Zstd),
        ("uncompressed", Self::Uncompressed),
    ];

    /// Returns the value of the key `compression`.
    pub fn as_str(self) -> &'static str {
        word(&Self::WORDS, self)
    }

    /// Returns the highest level (the lowest is 0); `None` if there are no levels.
    pub fn highest_level(self) -> Option<i32> {
        match self {
            Self::Gzip | Self::Estargz => Some(9),
            Self::Zstd => Some(22),
            Self::Uncompressed | Self::Auto => None,
        }
    }
}

/// Who moves the bytes of a cache between builder and registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Via {
    /// The program chooses.
    #[default]
    Auto,
    /// The program itself, through the session's content store.
    Client,
    /// BuildKit's own exporter or importer.
    Builder,
}

impl Via {
    pub(super) const WORDS: [(&'static str, Self); 3] = [
        ("auto", Self::Auto),
        ("client", Self::Client),
        ("builder", Self::Builder),
    ];

    /// Returns the value of the key `via`.
    pub fn as_str(self) -> &'static str {
        word(&Self::WORDS, self)
    }
}

/// Who compresses the layers of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compressor {
    /// The program chooses.
    #[default]
    Auto,
    /// The program itself, while it uploads.
    Client,
    /// BuildKit.
    Builder,
}

impl Compressor {
    pub(super) const WORDS: [(&'static str, Self); 3] = [
        ("auto", Self::Auto),
        ("client", Self::Client),
        ("builder", Self::Builder),
    ];

    /// Returns the value of the key `compressor`.
    pub fn as_str(self) -> &'static str {
        word(&Self::WORDS, self)
    }
}

/// How the cache of a build that fails or is cancelled is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// What is finished is published.
    #[default]
    Export,
    /// Nothing is published.
    Skip,
}

impl OnFailure {
    pub(super) const WORDS: [(&'static str, Self); 2] =
        [("export", Self::Export), ("skip", Self::Skip)];

    /// Returns the value of the key `on-failure`.
    pub fn as_str(self) -> &'static str {
        word(&Self::WORDS, self)
    }
}

/// Where the signature of a cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignAs {
    /// In its manifest.
    #[default]
    Manifest,
    /// Also in a manifest of its own that refers to that one, for cosign.
    Referrer,
}

impl SignAs {
    pub(super) const WORDS: [(&'static str, Self); 2] =
        [("manifest", Self::Manifest), ("referrer", Self::Referrer)];

    /// Returns the value of the key `sign-as`.
    pub fn as_str(self) -> &'static str {
        word(&Self::WORDS, self)
    }
}

/// What a cache tells about the builds that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Their steps, lists of the files of their contexts, and the commit.
    Full,
    /// Their steps only.
    Steps,
    /// Nothing.
    Off,
}

impl Told {
    pub(super) const WORDS: [(&'static str, Self); 3] = [
        ("full", Self::Full),
        ("steps", Self::Steps),
        ("off", Self::Off),
    ];

    /// Returns the value of the key `record`.
    pub fn as_str(self) -> &'static str {
        word(&Self::WORDS, self)
    }
}

fn word<T: PartialEq + Copy>(words: &[(&'static str, T)], value: T) -> &'static str {
    words
        .iter()
        .find(|(_, known)| *known == value)
        .map_or("", |(word, _)| *word)
}

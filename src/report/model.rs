//! A report. Its fields are those of the JSON form, which README describes: none is renamed or given another meaning
//! without another [`SCHEMA`].

use serde::Serialize;

/// Version of the form. A field that is added does not change it.
pub const SCHEMA: u32 = 1;

/// What there is to tell of a build. Times are milliseconds, from the beginning of the build where they are moments.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of this program.
    pub version: String,
    /// What was built: the first name of the image, or the name of the context's folder.
    pub name: String,
    /// The stage that was asked for.
    pub target: Option<String>,
    /// What came of it.
    pub result: Outcome,
    /// Why it failed.
    pub error: Option<String>,
    /// When it began, in the form of RFC 3339.
    pub started: String,
    /// How long it took.
    pub duration_ms: u64,
    /// The builder's name.
    pub builder: String,
    /// The builder's driver.
    pub driver: String,
    /// The platforms that were asked for.
    pub platforms: Vec<String>,
    /// Sums.
    pub totals: Totals,
    /// The caches.
    pub caches: Caches,
    /// The steps: in the order of the Dockerfile, those that do not stand in it last.
    pub steps: Vec<Step>,
    /// What was exported and imported beside the steps.
    pub exports: Vec<Export>,
}

/// What came of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed,
    /// The user cancelled it.
    Canceled,
}

/// Sums. Steps are those that count: those of the Dockerfile that make layers, on all platforms.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// How many there are.
    pub steps: usize,
    /// Those that came out of a cache.
    pub cached: usize,
    /// Those that ran.
    pub ran: usize,
    /// Those that failed.
    pub failed: usize,
    /// Those that were stopped, or not reached.
    pub canceled: usize,
    /// The share that came out of a cache, in per cent; `None` without steps.
    pub hit_rate: Option<f64>,
    /// About how long the steps out of caches would have run, less the time that it took to load them; `None` where no
    /// cache tells.
    pub saved_ms: Option<u64>,
    /// Bytes of layers sent to caches, where that is known.
    pub sent_bytes: Option<u64>,
    /// Bytes of layers received from caches, where that is known.
    pub received_bytes: Option<u64>,
    /// Bytes of cache mounts sent to caches, where some were to be.
    pub mounts_sent_bytes: Option<u64>,
    /// Bytes of cache mounts received from caches, where some were to be.
    pub mounts_received_bytes: Option<u64>,
}

/// The caches of a build.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Caches {
    /// Those that it was to read.
    pub read: Vec<ReadCache>,
    /// Those that it was to write.
    pub written: Vec<Written>,
}

/// A cache that a build was to read.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadCache {
    /// Its reference or folder.
    pub name: String,
    /// Whether it was read.
    pub status: ReadStatus,
    /// Why it could not be read.
    pub error: Option<String>,
    /// How old it is, in words.
    pub age: Option<String>,
    /// The commit that it was made from.
    pub commit: Option<String>,
    /// How many of the steps that came out of a cache it has.
    pub hits: Option<usize>,
    /// Bytes of layers that were loaded from it alone.
    pub bytes: Option<u64>,
}

/// Whether a cache was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadStatus {
    /// It was.
    Read,
    /// It does not exist.
    Missing,
    /// It could not be read.
    Unreadable,
}

/// A cache that a build was to write.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    /// Its reference or folder, or the type of another cache.
    pub name: String,
    /// Whether it was written.
    pub status: WriteStatus,
    /// Why it could not be.
    pub error: Option<String>,
    /// Bytes sent, where that is known.
    pub bytes: Option<u64>,
    /// How long its export went on after the last step had ended.
    pub after_steps_ms: Option<u64>,
}

/// Whether a cache was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteStatus {
    /// It was.
    Written,
    /// It could not be.
    Failed,
    /// Nothing was sent to it.
    Skipped,
}

/// One step.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its place in the list.
    pub id: usize,
    /// Its name, such as `[build 4/6] COPY . .`, with variables as the Dockerfile has them.
    pub name: String,
    /// `exec`, `file`, `merge`, `diff`, `image`, `git`, `http`, `local` or `internal`.
    pub kind: &'static str,
    /// It counts in [`Totals`].
    pub counted: bool,
    /// The node that it belongs to, where there are several.
    pub node: Option<String>,
    /// Its stage; `None` where the Dockerfile has but one without a name.
    pub stage: Option<String>,
    /// Its platform.
    pub platform: Option<String>,
    /// Name of the Dockerfile.
    pub dockerfile: Option<String>,
    /// Its first line in it.
    pub line: Option<u32>,
    /// What became of it.
    pub status: Status,
    /// It came out of a cache, and its layers were fetched.
    pub loading: bool,
    /// The build had to wait for it.
    pub critical: bool,
    /// When it began.
    pub start_ms: Option<u64>,
    /// How long it ran or was loaded.
    pub duration_ms: u64,
    /// Bytes that it fetched or sent, where that is known.
    pub bytes: Option<u64>,
    /// The cache that it came from, where that is known.
    pub cache: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// Why it ran.
    pub cause: Option<Cause>,
    /// The step whose cause made it run.
    pub follows: Option<usize>,
    /// The steps that ran only because this one did.
    pub followers: Vec<usize>,
    /// The steps that it is made of.
    pub inputs: Vec<usize>,
    /// When it ran or was loaded, from and to.
    #[serde(skip)]
    pub spans: Vec<Span>,
}

/// From when to when.
pub type Span = (u64, u64);

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It ran.
    Ran,
    /// It came out of a cache.
    Cached,
    /// It failed.
    Failed,
    /// It was stopped, or not reached.
    Canceled,
}

impl Status {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ran => "ran",
            Self::Cached => "cached",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

/// Why a step ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Its code.
    pub code: &'static str,
    /// In words.
    pub text: String,
}

/// Something that went on beside the steps.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// What it is.
    pub kind: ExportKind,
    /// Its name, such as `exporting to image`.
    pub name: String,
    /// The node, where there are several.
    pub node: Option<String>,
    /// What became of it.
    pub status: Status,
    /// When it began.
    pub start_ms: Option<u64>,
    /// How long it took.
    pub duration_ms: u64,
    /// Bytes that it sent, where that is known.
    pub bytes: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it went on, from and to.
    #[serde(skip)]
    pub spans: Vec<Span>,
}

/// What goes on beside steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportKind {
    /// A cache is read.
    Import,
    /// The result is exported.
    Image,
    /// A cache is written.
    Cache,
    /// A cache mount is saved or restored.
    Mount,
}

impl Report {
    /// Returns the steps that have a cause of their own.
    pub fn causes(&self) -> impl Iterator<Item = (&Step, &Cause)> {
        let steps = self.steps.iter();
        steps.filter_map(|step| Some((step, step.cause.as_ref()?)))
    }

    /// Returns the step that failed.
    pub fn failed_step(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.status == Status::Failed)
    }

    /// Returns how long the steps took that follow from one.
    pub fn behind_ms(&self, step: &Step) -> u64 {
        let followers = step.followers.iter().filter_map(|id| self.steps.get(*id));
        followers.map(|step| step.duration_ms).sum()
    }

    /// Returns whether steps are of several platforms.
    pub fn has_platforms(&self) -> bool {
        let mut platforms = self.steps.iter().filter_map(|step| step.platform.as_ref());
        let first = platforms.next();
        platforms.any(|platform| Some(platform) != first)
    }
}

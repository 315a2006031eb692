//! The reports of a build: where they go, what they are made of, and the summary of the job in GitHub Actions.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::args::BuildArgs;
use super::finish::refused;
use crate::build::BuildRequest;
use crate::build::cache::CacheTarget;
use crate::build::explain::recorder::context_name;
use crate::build::run::BuildOutcome;
use crate::builder::{Builder, Node};
use crate::cli::Context;
use crate::env::{self, Env};
use crate::error::{CommandError, ErrorKind};
use crate::options::boolean::parse_bool;
use crate::options::output::Dest;
use crate::options::report::{Format, ReportTo};
use crate::output_file::{self, folder_of};
use crate::progress::model::Model;
use crate::progress::time::Time;
use crate::progress::{StatusSender, Trace};
use crate::report::{self, BuildFacts, Ending, Known, NodeFacts, Report, WrittenCache};

/// What GitHub takes of one step of a job, in bytes.
const MAX_SUMMARY: u64 = 1 << 20;

const REPORT: &str = "report";

/// The reports that are wanted.
#[derive(Debug)]
pub(super) struct Reports {
    to: Vec<(Format, Option<PathBuf>)>,
    /// The file that GitHub shows with the job.
    summary: Option<PathBuf>,
    began: Time,
}

/// What is noted on one node for them.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeNotes {
    trace: Arc<Trace>,
    known: Arc<OnceLock<Arc<Known>>>,
}

impl NodeNotes {
    /// Returns a sender whose reports are noted.
    pub(super) fn noting(&self, sender: StatusSender) -> StatusSender {
        sender.with_trace(Arc::clone(&self.trace))
    }

    /// Returns where that goes which only the build knows.
    pub(super) fn known(&self) -> Arc<OnceLock<Arc<Known>>> {
        Arc::clone(&self.known)
    }
}

/// A build that is over.
#[derive(Clone, Copy)]
pub(super) struct Ended<'a> {
    pub(super) request: &'a BuildRequest,
    pub(super) targets: &'a [CacheTarget],
    pub(super) builder: &'a Builder,
    pub(super) nodes: &'a [&'a Node],
    pub(super) noted: &'a [NodeNotes],
    pub(super) result: &'a Result<BuildOutcome, CommandError>,
}

impl Reports {
    /// Takes what is wanted, by flags and environment, of a build that begins now.
    ///
    /// # Errors
    ///
    /// Fails if a value is wrong, two reports go to one place, or a file cannot be written.
    pub(super) fn resolve(
        args: &BuildArgs,
        request: &BuildRequest,
        env: &Env,
    ) -> Result<Self, CommandError> {
        let mut to: Vec<(Format, Option<PathBuf>)> = Vec::new();
        for text in &args.reports {
            let report = ReportTo::parse(text);
            let report = report.map_err(|error| {
                CommandError::failed(format!("invalid value for --report: {error}"))
            })?;
            let place = report.file.map(|file| env.current_dir().join(file));
            if to.iter().any(|(_, other)| *other == place) {
                let error = format!("two reports go to the same place: {text:?}");
                return Err(
                    CommandError::failed(error).hint("name a file for one: --report md=FILE")
                );
            }
            to.push((report.format, place));
        }
        let reports = Self {
            to,
            summary: summary_file(env).filter(|_| request.call.is_none()),
            began: Time::now(),
        };
        reports.check(request)?;
        Ok(reports)
    }

    fn check(&self, request: &BuildRequest) -> Result<(), CommandError> {
        if request.call.is_some() && !self.to.is_empty() {
            let error = "--report is for builds: there are no steps to report on with --call";
            return Err(CommandError::failed(error));
        }
        for (_, place) in &self.to {
            match place {
                Some(path) => {
                    let checked = output_file::check(path);
                    checked.map_err(|error| refused(REPORT, path, &error))?;
                }
                None if request.outputs.iter().any(|o| o.dest == Some(Dest::Stdout)) => {
                    let error = "the result of the build and a report both go to standard output";
                    return Err(CommandError::failed(error)
                        .hint("name a file for the report: --report md=FILE"));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Returns whether there is any.
    pub(super) fn are_wanted(&self) -> bool {
        !self.to.is_empty() || self.summary.is_some()
    }

    /// Returns what is noted on each node; nothing where no report is wanted.
    pub(super) fn notes(&self, nodes: usize) -> Vec<NodeNotes> {
        let count = if self.are_wanted() { nodes } else { 0 };
        (0..count).map(|_| NodeNotes::default()).collect()
    }

    /// Writes them. What cannot be written is a remark: the build is what counts.
    pub(super) fn write(&self, ended: Ended<'_>, ctx: &Context) {
        if !self.are_wanted() {
            return;
        }
        let report = made(self.began, ended);
        for (format, place) in &self.to {
            let text = rendered(&report, *format);
            let written = match place {
                Some(path) => output_file::write(path, text.as_bytes())
                    .map_err(|error| refused(REPORT, path, &error)),
                None => ctx.ui.text(&text).map_err(CommandError::failed),
            };
            if let Err(error) = written {
                ctx.ui.warning(&error.message());
            }
        }
        if let Some(path) = &self.summary
            && let Err(error) = append(path, &report::md::render(&report))
        {
            ctx.ui.warning(&format!(
                "the report is not in the job's summary {}: {error}",
                path.display()
            ));
        }
    }
}

/// Returns the file that GitHub shows with the job, unless the user does not want a report in it.
fn summary_file(env: &Env) -> Option<PathBuf> {
    let wanted = env.non_empty(env::CACHEX_SUMMARY).and_then(parse_bool);
    let in_actions = env.get(env::GITHUB_ACTIONS) == Some("true");
    let path = env.path(env::GITHUB_STEP_SUMMARY);
    path.filter(|_| in_actions && wanted != Some(false))
        .map(|path| env.current_dir().join(path))
}

/// Adds a report to the summary of a job, in one piece.
fn append(path: &Path, text: &str) -> Result<(), String> {
    let length = match fs_err::metadata(path) {
        Ok(meta) if meta.is_file() => meta.len(),
        Ok(_) => return Err("it is not a file".to_owned()),
        Err(_) if folder_of(path).is_dir() => 0,
        Err(error) => return Err(error.to_string()),
    };
    let text = if length == 0 {
        text.to_owned()
    } else {
        // What is there may end within a line, and a heading needs an empty one before it.
        format!("\n\n{text}")
    };
    let more = u64::try_from(text.len()).unwrap_or(u64::MAX);
    if length.saturating_add(more) > MAX_SUMMARY {
        return Err("it is full: GitHub takes 1 MiB".to_owned());
    }
    let file = fs_err::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| error.to_string())
}

fn rendered(report: &Report, format: Format) -> String {
    match format {
        Format::Md => report::md::render(report),
        Format::Json => report::json::render(report),
        Format::Html => report::html::render(report),
    }
}

/// Makes the report.
fn made(began: Time, ended: Ended<'_>) -> Report {
    let Ended {
        request,
        targets,
        builder,
        nodes,
        noted,
        result,
    } = ended;
    let ending = match result {
        Ok(_) => Ending::Succeeded,
        Err(error) if error.kind == ErrorKind::Cancelled => Ending::Canceled,
        Err(error) => Ending::Failed(error.message()),
    };
    let name = match request.tags.first() {
        Some(tag) => tag.to_string(),
        None => Some(context_name(&request.inputs))
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "build".to_owned()),
    };
    let facts = BuildFacts {
        version: env!("CARGO_PKG_VERSION"),
        name,
        target: request.target.clone().filter(|target| !target.is_empty()),
        builder: (builder.name().to_owned(), builder.driver().to_owned()),
        platforms: request.platforms.iter().map(ToString::to_string).collect(),
        time: (began, Time::now()),
        ending,
        written: targets.iter().map(written).collect(),
    };
    let models: Vec<Model> = noted.iter().map(|own| own.trace.finish()).collect();
    let has_several = nodes.len() > 1;
    let nodes = nodes.iter().zip(noted).zip(&models);
    let nodes = nodes.map(|((node, own), model)| NodeFacts {
        name: has_several.then(|| node.name()),
        model,
        known: own.known.get().map(|known| &**known),
    });
    report::collect(facts, &nodes.collect::<Vec<_>>())
}

fn written(target: &CacheTarget) -> WrittenCache {
    let (name, is_inline) = match target {
        CacheTarget::Registry(target) => (target.cache.raw_ref.clone(), false),
        CacheTarget::Layout(target) => (target.dest.clone(), false),
        CacheTarget::Builder(entry) => (format!("type={}", entry.kind), entry.kind == "inline"),
    };
    WrittenCache { name, is_inline }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_written_in_github_actions_only() {
        let file = |pairs: &[(&str, &str)]| {
            let env = Env::from_pairs(pairs.iter().copied(), "/home/me");
            summary_file(&env).is_some()
        };
        let summary = (env::GITHUB_STEP_SUMMARY, "/tmp/summary");
        let actions = (env::GITHUB_ACTIONS, "true");
        assert!(file(&[actions, summary]));
        assert!(file(&[actions, summary, (env::CACHEX_SUMMARY, "1")]));
        assert!(!file(&[actions, summary, (env::CACHEX_SUMMARY, "0")]));
        assert!(!file(&[actions, summary, (env::CACHEX_SUMMARY, "false")]));
        assert!(!file(&[summary]) && !file(&[actions]));
        assert!(!file(&[actions, (env::GITHUB_STEP_SUMMARY, "")]));
    }

    #[test]
    fn a_summary_is_added_to_and_never_overfilled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("summary");
        append(&path, "### a\n").unwrap();
        append(&path, "### b\n").unwrap();
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "### a\n\n\n### b\n");
        let full = vec![b'x'; 1 << 20];
        fs_err::write(&path, &full).unwrap();
        assert!(append(&path, "### c\n").unwrap_err().contains("full"));
        assert_eq!(fs_err::read(&path).unwrap(), full);
        assert!(
            append(folder.path(), "x")
                .unwrap_err()
                .contains("not a file")
        );
        let nowhere = folder.path().join("no/summary");
        assert!(append(&nowhere, "x").is_err());
    }
}

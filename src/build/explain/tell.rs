//! Why the steps of a build that has ended ran.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::caches;
use super::files::Reader;
use super::findings::{Findings, that_ran};
use super::watch::Watch;
use super::{Around, DEADLINE, fresh};
use crate::build::cache::import::found::FoundCache;
use crate::build::request::BuildRequest;
use crate::cache::keys::Plan;
use crate::explain::phrase::{self, Length};
use crate::explain::rate::Rate;
use crate::explain::{Outcomes, render};
use crate::options::explain::Explain;
use crate::text;

/// Characters of a step's name that are shown.
const NAME: usize = 80;

/// What there is to tell of the steps of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The lines under the summary; none where nothing is to be told.
    pub lines: Vec<String>,
    /// How many steps came out of caches.
    pub rate: Rate,
    /// The first step that ran, and why.
    pub first: Option<StepThatRuns>,
    /// The step for which the build was ended.
    pub refused: Option<StepThatRuns>,
}

/// A step that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepThatRuns {
    /// Its name.
    pub step: String,
    /// Why it ran, in one line.
    pub cause: String,
}

/// What is known when the steps of a build have run.
#[derive(Debug)]
pub struct Evidence {
    request: BuildRequest,
    plan: Arc<Plan>,
    outcomes: Outcomes,
    ran: BTreeSet<usize>,
    /// The name of the step for which the build was ended.
    refused: Option<String>,
    findings: Option<Findings>,
}

impl Evidence {
    /// Collects it, as far as that is done by the deadline.
    pub(super) async fn collect(
        request: &BuildRequest,
        watch: &Watch,
        reader: &Reader,
        found: Vec<FoundCache>,
        around: Around<'_>,
    ) -> Self {
        let (plan, outcomes) = watch.outcomes();
        let ran = that_ran(&plan, &outcomes);
        let mut evidence = Self {
            request: request.clone(),
            plan: Arc::clone(&plan),
            outcomes,
            refused: watch.refused(),
            findings: None,
            ran,
        };
        let is_told = request.steps.explain != Explain::Off || request.steps.require_cached;
        if evidence.ran.is_empty() || !is_told {
            return evidence;
        }
        let find = async {
            let caches = caches::load(found).await;
            Findings::find(plan, caches, &evidence.ran, reader, around).await
        };
        let late = async {
            // What has been read by then is told.
            tokio::time::sleep(DEADLINE / 2).await;
            reader.stop();
            tokio::time::sleep(DEADLINE / 2).await;
        };
        let findings = tokio::select! {
            findings = Box::pin(find) => Some(findings),
            () = late => None,
        };
        if findings.is_none() {
            tracing::debug!("why steps ran was not found out in time");
        }
        evidence.findings = findings;
        evidence
    }

    /// Tells it, after the caches have been written if they were.
    pub async fn explain(self, around: Around<'_>, is_published: bool) -> Explanation {
        let Self {
            request,
            plan,
            outcomes,
            ran,
            refused,
            findings,
        } = self;
        let mut explanation = Explanation {
            lines: Vec::new(),
            rate: Rate::of(&plan, &outcomes),
            first: None,
            refused: refused.map(|step| StepThatRuns {
                step: text::foreign::excerpt(&step, NAME),
                cause: "why is not known".to_owned(),
            }),
        };
        let Some(mut findings) = findings else {
            return explanation;
        };
        if findings.caches.read.is_empty() {
            let line = render::no_cache(&findings.caches.unread);
            if let (Some(refused), Some(line)) = (&mut explanation.refused, &line) {
                refused.cause.clone_from(line);
            }
            explanation.lines = line.into_iter().collect();
            return explanation;
        }
        if is_published {
            let fresh = tokio::time::timeout(DEADLINE, fresh::read(around)).await;
            if let Ok(Some(fresh)) = fresh {
                findings.calibrate(&fresh, &ran);
            }
        }
        let length = match request.steps.explain {
            Explain::Full => Length::Full,
            Explain::Auto | Explain::Off => Length::Short,
        };
        findings.diagnose(&request, &outcomes, |build, diagnosis| {
            explanation.lines = render::lines(diagnosis, build.caches, length);
            explanation.first = diagnosis.misses.first().map(|miss| StepThatRuns {
                step: phrase::name(&miss.step),
                cause: phrase::cause(&miss.cause, Length::Short).join("; "),
            });
        });
        if explanation.refused.is_some() && explanation.first.is_some() {
            explanation.refused.clone_from(&explanation.first);
        }
        explanation
    }
}

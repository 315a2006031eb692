//! Why the steps of a build that has ended ran.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::caches::{self, Caches};
use super::early::Answers;
use super::findings::{Findings, that_ran};
use super::{Around, DEADLINE, Explainer, fresh, known};
use crate::build::cache::import::found::FoundCache;
use crate::build::request::BuildRequest;
use crate::cache::keys::Plan;
use crate::explain::phrase::{self, Length};
use crate::explain::rate::Rate;
use crate::explain::{Miss, Outcomes, render};
use crate::options::explain::Explain;
use crate::report::Known;
use crate::text;

/// Characters of a step's name that are shown.
const NAME: usize = 80;

/// What there is to tell of the steps of a build.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The lines under the summary; none where nothing is to be told.
    pub lines: Vec<String>,
    /// How many steps came out of caches.
    pub rate: Rate,
    /// The first step that ran, and why.
    pub first: Option<StepThatRuns>,
    /// The step for which the build was ended.
    pub refused: Option<StepThatRuns>,
    /// What a report is told, where there is one.
    pub known: Option<Arc<Known>>,
}

/// A step that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepThatRuns {
    /// Its name.
    pub step: String,
    /// Why it ran, in one line.
    pub cause: String,
}

/// Returns whether anything is told of the steps of a build.
pub(super) fn is_told(request: &BuildRequest) -> bool {
    let wishes = &request.steps;
    wishes.explain != Explain::Off || wishes.require_cached || wishes.is_reported
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
    /// The caches, where nothing had to be found in them.
    caches: Option<Caches>,
    /// The names of the steps, where there is a report.
    names: Option<Vec<String>>,
}

impl Evidence {
    /// Collects it, as far as that is done by the deadline.
    pub(super) async fn collect(explainer: &Explainer, found: Vec<FoundCache>) -> Self {
        let Explainer {
            request,
            watch,
            reader,
            builder,
            early,
            names,
        } = explainer;
        let (plan, outcomes) = watch.outcomes();
        let ran = that_ran(&plan, &outcomes);
        let mut evidence = Self {
            request: request.clone(),
            plan: Arc::clone(&plan),
            outcomes,
            refused: watch.refused(),
            findings: None,
            caches: None,
            names: request.steps.is_reported.then(|| names.lock().clone()),
            ran,
        };
        if request.steps.is_reported && evidence.ran.is_empty() {
            let loaded = tokio::time::timeout(DEADLINE, caches::load(found, Vec::new())).await;
            evidence.caches = loaded.ok();
            return evidence;
        }
        if evidence.ran.is_empty() || found.is_empty() || !is_told(request) {
            return evidence;
        }
        let find = async {
            let Answers { caches, bases } = early.answers().await;
            let caches = caches::load(found, caches).await;
            Findings::find(plan, caches, &evidence.ran, reader, (builder, bases)).await
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
    pub async fn explain(mut self, around: Around<'_>, is_published: bool) -> Explanation {
        let mut explanation = Explanation {
            lines: Vec::new(),
            rate: Rate::of(&self.plan, &self.outcomes),
            first: None,
            refused: self.refused.take().map(|step| StepThatRuns {
                step: text::foreign::excerpt(&step, NAME),
                cause: "why is not known".to_owned(),
            }),
            known: None,
        };
        let findings = self.findings.take();
        let looked_into = findings.as_ref().map(|findings| &findings.caches);
        let looked_into = looked_into.or(self.caches.as_ref());
        let names = self.names.take();
        let mut known = names.map(|names| known::known(&self.plan, names, looked_into));
        if let Some(findings) = findings {
            let telling = self.tell(findings, around, is_published, &mut explanation);
            let misses = Box::pin(telling).await;
            if let Some(known) = &mut known {
                known.misses = misses;
            }
        }
        if self.request.steps.explain == Explain::Off {
            explanation.lines.clear();
        }
        explanation.known = known.map(Arc::new);
        explanation
    }

    /// Adds what was found out, and returns why steps ran.
    async fn tell(
        &self,
        mut findings: Findings,
        around: Around<'_>,
        is_published: bool,
        explanation: &mut Explanation,
    ) -> Vec<Miss> {
        if findings.caches.read.is_empty() {
            let line = render::no_cache(&findings.caches.unread);
            if let (Some(refused), Some(line)) = (&mut explanation.refused, &line) {
                refused.cause.clone_from(line);
            }
            explanation.lines = line.into_iter().collect();
            return Vec::new();
        }
        if is_published {
            let fresh = tokio::time::timeout(DEADLINE, fresh::read(around)).await;
            if let Ok(Some(fresh)) = fresh {
                findings.calibrate(&fresh, &self.ran);
            }
        }
        let length = match self.request.steps.explain {
            Explain::Full => Length::Full,
            Explain::Auto | Explain::Off => Length::Short,
        };
        let misses = findings.diagnose(&self.request, &self.outcomes, |build, diagnosis| {
            explanation.lines = render::lines(diagnosis, build.caches, length);
            explanation.first = diagnosis.misses.first().map(|miss| StepThatRuns {
                step: phrase::name(&miss.step),
                cause: phrase::cause(&miss.cause, Length::Short).join("; "),
            });
            diagnosis.misses.clone()
        });
        if explanation.refused.is_some() && explanation.first.is_some() {
            explanation.refused.clone_from(&explanation.first);
        }
        misses
    }
}

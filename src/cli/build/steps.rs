//! Why the steps of a build ran, and whether few enough did.

use crate::build::explain::Explanation;
use crate::build::run::BuildOutcome;
use crate::cli::Context;
use crate::error::{CommandError, ErrorKind};
use crate::explain::rate::Rate;
use crate::options::explain::HitRate;

/// Shows why steps ran, those of `failed` nodes if the build failed.
pub(super) fn explain(outcome: Option<&BuildOutcome>, failed: &[Explanation], ctx: &Context) {
    let nodes = outcome.map_or(failed, |outcome| &outcome.explanations);
    for line in nodes.iter().flat_map(|node| &node.lines) {
        ctx.ui.status(line);
    }
}

/// Checks how many of the steps came out of caches.
///
/// # Errors
///
/// Fails if fewer did than must.
pub(super) fn check_rate(
    explanations: &[Explanation],
    wanted: Option<HitRate>,
) -> Result<(), CommandError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let rates = explanations.iter().map(|node| node.rate);
    let rate = rates.fold(Rate { served: 0, all: 0 }, |sum, rate| Rate {
        served: sum.served + rate.served,
        all: sum.all + rate.all,
    });
    if rate.is_at_least(wanted.percent()) {
        return Ok(());
    }
    let first = explanations.iter().find_map(|node| node.first.as_ref());
    let first = first.map_or_else(String::new, |first| {
        format!(": {}: {}", first.step, first.cause)
    });
    Err(CommandError::new(
        ErrorKind::NotCached,
        format!(
            "{} of {} steps came out of caches ({:.0}%), and --min-hit-rate asks for {}%{first}",
            rate.served,
            rate.all,
            rate.percent().floor(),
            wanted.percent(),
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::explain::tell::StepThatRuns;

    fn node(served: usize, all: usize, first: Option<&str>) -> Explanation {
        Explanation {
            lines: Vec::new(),
            rate: Rate { served, all },
            first: first.map(|step| StepThatRuns {
                step: step.to_owned(),
                cause: "its command differs".to_owned(),
            }),
            refused: None,
            known: None,
        }
    }

    #[test]
    fn the_steps_of_all_nodes_count() {
        let nodes = [node(3, 3, None), node(1, 3, Some("[2/4] RUN make"))];
        let check = |rate: &str| check_rate(&nodes, HitRate::parse(rate).ok());
        assert!(check("66%").is_ok() && check_rate(&nodes, None).is_ok());
        let error = check("80%").unwrap_err();
        assert_eq!(error.kind.exit_code(), 3);
        assert_eq!(
            error.message(),
            "4 of 6 steps came out of caches (66%), and --min-hit-rate asks for 80%: [2/4] RUN make: \
             its command differs"
        );
        assert!(check_rate(&[node(0, 0, None)], HitRate::parse("100%").ok()).is_ok());
    }
}

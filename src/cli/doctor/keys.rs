//! The keys that a build in this folder signs caches with, and verifies them by.

use super::report::{Report, way_out};
use crate::cli::keys;
use crate::env::{CACHEX_SIGN_KEY, CACHEX_VERIFY_KEYS, Env};

/// Reads the keys as a build does; one that a build cannot read is missing.
pub(super) fn look(env: &Env, report: &mut Report) {
    let check = "trusted keys";
    match keys::trust(None, Some(env.current_dir()), Vec::new(), env) {
        Ok(Some(_)) => report.yes(check, "caches are verified before they are read"),
        Ok(None) => report.untried(check, "none are named, so caches are read unverified"),
        Err(error) => {
            let advice = format!("mend the file that is named, or what {CACHEX_VERIFY_KEYS} names");
            report.missing(check, error.message(), way_out(&error.hints, &advice));
        }
    }
    let check = "key to sign with";
    match keys::own_signer(env) {
        Ok(Some(_)) => report.yes(check, format!("that of {CACHEX_SIGN_KEY}")),
        Ok(None) => report.untried(check, format!("{CACHEX_SIGN_KEY} is not set")),
        Err(error) => {
            let advice = format!(
                "let {CACHEX_SIGN_KEY} hold or name a key as docker cachex cache keygen makes it"
            );
            report.missing(check, error.message(), way_out(&error.hints, &advice));
        }
    }
}

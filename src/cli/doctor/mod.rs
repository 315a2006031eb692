//! `docker cachex doctor`: what the machine, the builder and, if one is named, a registry can do. The first thing to ask
//! for in a bug report.

mod builder;
mod clock;
mod credentials;
mod keys;
mod machine;
mod registry;
mod report;
mod trial;

use self::report::{Format, Report, way_out};
use super::Context;
use super::docker_env::quiet_docker_env;
use super::invocation::Invocation;
use crate::error::{CommandError, ErrorKind};

/// The arguments; the text of the help is at the command.
#[derive(Debug, Clone, clap::Args)]
pub struct DoctorArgs {
    /// Repository whose registry is tried, with what this login may do
    #[arg(value_name = "REPO")]
    pub repo: Option<String>,
    /// Form of the output
    #[arg(long, value_name = "table|json", default_value = "table")]
    pub format: Format,
    /// Plain HTTP, or TLS with any certificate
    #[arg(long)]
    pub insecure: bool,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if the arguments are wrong, or, after everything was shown, if something that is needed is missing.
pub async fn run(args: DoctorArgs, ctx: &Context) -> Result<(), CommandError> {
    let mut report = Report::default();
    let reference = args.repo.as_deref().map(registry::parse).transpose()?;
    match quiet_docker_env(ctx) {
        Ok(docker_env) => {
            let machine = machine::look(&docker_env, ctx, &mut report);
            ctx.ui
                .patiently("looking at the builder", Box::pin(machine))
                .await;
            if let Some(reference) = &reference {
                let invocation = Invocation::new(&docker_env, ctx);
                let registry = registry::look(&invocation, reference, args.insecure, &mut report);
                let waiting = format!("trying the registry {}", reference.domain);
                ctx.ui.patiently(&waiting, Box::pin(registry)).await;
            }
        }
        // Nothing else can be looked at, and a report is what was asked for.
        Err(error) => {
            let reason = error.message();
            let advice = way_out(&error.hints, "mend what is named");
            report.missing("docker's settings", reason, advice);
        }
    }
    ctx.ui.text(&report.render(args.format))?;
    if report.is_fine() {
        return Ok(());
    }
    Err(CommandError::new(
        ErrorKind::Status(1),
        "something that is needed is missing",
    ))
}

//! The flags that stand before the command, and may stand behind it as well.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args as _, Command};

use crate::docker::EndpointOptions;

/// Docker's global flags, which the docker command line hands through, and `--builder`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Global Options")]
pub struct GlobalFlags {
    /// Override the configured builder instance
    #[arg(id = "global-builder", long = "builder", value_name = "string")]
    pub builder: Option<String>,
    /// Location of client config files
    #[arg(id = "global-config", long = "config", value_name = "string", value_hint = clap::ValueHint::DirPath)]
    pub config: Option<String>,
    /// Name of the context to use to connect to the daemon
    #[arg(
        id = "global-context",
        short = 'c',
        long = "context",
        value_name = "string"
    )]
    pub context: Option<String>,
    /// Enable debug mode
    #[arg(id = "global-debug", short = 'D', long = "debug")]
    pub debug: bool,
    /// Daemon socket to connect to
    #[arg(id = "global-host", short = 'H', long = "host", value_name = "string")]
    pub hosts: Vec<String>,
    /// Set the logging level
    #[arg(
        id = "global-log-level", short = 'l', long = "log-level", value_name = "string",
        value_parser = ["debug", "info", "warn", "error", "fatal"]
    )]
    pub log_level: Option<String>,
    /// Use TLS; implied by --tlsverify
    #[arg(id = "global-tls", long = "tls")]
    pub tls: bool,
    /// Trust certs signed only by this CA
    #[arg(id = "global-tlscacert", long = "tlscacert", value_name = "string", value_hint = clap::ValueHint::FilePath)]
    pub tls_ca_cert: Option<String>,
    /// Path to TLS certificate file
    #[arg(id = "global-tlscert", long = "tlscert", value_name = "string", value_hint = clap::ValueHint::FilePath)]
    pub tls_cert: Option<String>,
    /// Path to TLS key file
    #[arg(id = "global-tlskey", long = "tlskey", value_name = "string", value_hint = clap::ValueHint::FilePath)]
    pub tls_key: Option<String>,
    /// Use TLS and verify the remote
    #[arg(id = "global-tlsverify", long = "tlsverify")]
    pub tls_verify: Option<bool>,
}

/// The global flags that the help of a command shows; the others are in the help of the program.
const SHOWN_EVERYWHERE: [&str; 2] = ["global-builder", "global-debug"];

impl GlobalFlags {
    /// Takes over what was given behind the command.
    pub(super) fn overlay(&mut self, matches: &ArgMatches) {
        let text = |id| matches.try_get_one::<String>(id).ok().flatten().cloned();
        let given = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let flag = |id: &str| {
            let value = matches.try_get_one::<bool>(id).ok().flatten();
            value.filter(|_| given(&id)).copied()
        };
        let replace = |place: &mut Option<String>, id| {
            if let Some(value) = text(id) {
                *place = Some(value);
            }
        };
        replace(&mut self.builder, "global-builder");
        replace(&mut self.config, "global-config");
        replace(&mut self.context, "global-context");
        replace(&mut self.log_level, "global-log-level");
        replace(&mut self.tls_ca_cert, "global-tlscacert");
        replace(&mut self.tls_cert, "global-tlscert");
        replace(&mut self.tls_key, "global-tlskey");
        self.debug = flag("global-debug").unwrap_or(self.debug);
        self.tls = flag("global-tls").unwrap_or(self.tls);
        self.tls_verify = flag("global-tlsverify").or(self.tls_verify);
        if let Ok(Some(hosts)) = matches.try_get_many::<String>("global-host") {
            self.hosts.extend(hosts.cloned());
        }
        if let Some((_, inner)) = matches.subcommand() {
            self.overlay(inner);
        }
    }

    /// Returns whether the log goes to standard error.
    pub fn logs(&self) -> bool {
        self.debug || self.log_level.as_deref() == Some("debug")
    }

    /// Returns the flags that choose a daemon.
    pub fn endpoint_options(&self) -> EndpointOptions {
        let path = |text: &Option<String>| text.as_deref().map(PathBuf::from);
        EndpointOptions {
            context: self.context.clone(),
            hosts: self.hosts.clone(),
            tls: self.tls,
            tls_verify: self.tls_verify,
            tls_ca_cert: path(&self.tls_ca_cert),
            tls_cert: path(&self.tls_cert),
            tls_key: path(&self.tls_key),
        }
    }
}

/// Adds the global flags to every command below `root`. A flag that the command has itself wins: a
/// long one is left out, a short one is taken from the global flag (`-c` of build).
pub(super) fn spread(mut root: Command) -> Command {
    let flags: Vec<Arg> = GlobalFlags::augment_args(Command::new("global"))
        .get_arguments()
        .cloned()
        .collect();
    for command in root.get_subcommands_mut() {
        let own = std::mem::take(command);
        *command = add(own, &flags);
    }
    root
}

fn add(mut command: Command, flags: &[Arg]) -> Command {
    for command in command.get_subcommands_mut() {
        let own = std::mem::take(command);
        *command = add(own, flags);
    }
    for flag in flags {
        let has_long = command.get_arguments().any(|own| {
            own.get_long() == flag.get_long()
                || own
                    .get_all_aliases()
                    .is_some_and(|all| all.iter().any(|a| Some(*a) == flag.get_long()))
        });
        if has_long {
            continue;
        }
        let short = flag.get_short();
        let has_short = command.get_arguments().any(|own| {
            own.get_short() == short
                || own
                    .get_all_short_aliases()
                    .is_some_and(|all| all.iter().any(|a| Some(*a) == short))
        });
        let shown = SHOWN_EVERYWHERE.contains(&flag.get_id().as_str());
        let mut flag = flag.clone().hide(!shown);
        if has_short {
            flag = flag.short(None);
        }
        command = command.arg(flag);
    }
    command
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::super::pflag::like_pflag;
    use super::*;

    fn tree() -> Command {
        let build = Command::new("build")
            .arg(Arg::new("shares").short('c').long("cpu-shares"))
            .arg(Arg::new("config").long("config"));
        let root = GlobalFlags::augment_args(Command::new("x").no_binary_name(true));
        like_pflag(spread(
            root.subcommand(build).subcommand(Command::new("ls")),
        ))
    }

    fn parse(line: &str) -> (GlobalFlags, ArgMatches) {
        let matches = tree().try_get_matches_from(line.split(' ')).unwrap();
        let mut flags = GlobalFlags::from_arg_matches(&matches).unwrap();
        if let Some((_, inner)) = matches.subcommand() {
            flags.overlay(inner);
        }
        (flags, matches)
    }

    #[test]
    fn flags_count_before_and_behind_the_command() {
        for line in [
            "-c ctx -D --builder b ls",
            "ls -c ctx -D --builder b",
            "-c other -D ls --context ctx --builder=b",
        ] {
            let (flags, _) = parse(line);
            assert_eq!(flags.context.as_deref(), Some("ctx"), "{line}");
            assert_eq!(flags.builder.as_deref(), Some("b"), "{line}");
            assert!(flags.debug && flags.logs(), "{line}");
        }
        assert_eq!(parse("-H a ls -H b").0.hosts, ["a", "b"]);
        assert!(!parse("-D ls --debug=false").0.debug);
        assert!(parse("--debug=false ls -D").0.debug);
        assert!(parse("--tls ls").0.tls);
    }

    #[test]
    fn own_flags_of_a_command_win() {
        let (flags, matches) = parse("-c ctx --config dir build -c 5 --config file -D");
        assert_eq!(flags.context.as_deref(), Some("ctx"));
        assert_eq!(flags.config.as_deref(), Some("dir"));
        assert!(flags.debug);
        let (_, build) = matches.subcommand().unwrap();
        assert_eq!(build.get_one::<String>("shares").unwrap(), "5");
        assert_eq!(build.get_one::<String>("config").unwrap(), "file");
        assert_eq!(
            parse("build --context ctx").0.context.as_deref(),
            Some("ctx")
        );
    }

    #[test]
    fn tls_flags_become_endpoint_options() {
        let (flags, _) = parse("--tlsverify --tlscacert /ca ls");
        assert_eq!(flags.endpoint_options().tls_verify, Some(true));
        assert_eq!(flags.endpoint_options().tls_ca_cert, Some("/ca".into()));
        assert_eq!(parse("--tlsverify=false ls").0.tls_verify, Some(false));
        assert_eq!(parse("ls").0.tls_verify, None);
    }
}

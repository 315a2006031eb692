//! What goes on to the real buildx, whose place this program takes under its name: what is not here, and builders of drivers
//! that are not.
//!
//! Whether something goes on is decided from arguments and files alone, before anything is done or said.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::build::BuildArgs;
use super::docker_env::quiet_docker_env;
use super::{Commands, Context, keys};
use crate::builder::resolve;
use crate::builder::{DockerEnv, NodeGroup};
use crate::docker::{ConfigFile, config_dir};
use crate::env::{BUILDX_DEFAULT_POLICY, CACHEX_CACHE, CACHEX_HAND_ON, Env};
use crate::error::CommandError;
use crate::options::boolean::parse_bool;
use crate::plugin::hand_on::{COVERED_VERSION, GUARD, Original, Search, Silent};
use crate::plugin::{self, Name, alias};

/// Keys of `--cache-to` and `--cache-from` that only this program understands; BuildKit passes over them.
const OWN_KEYS: [&str; 20] = [
    "via",
    "compressor",
    "merge",
    "alongside",
    "on-failure",
    "on-failure-timeout",
    "record",
    "max-age",
    "max-size",
    "max-records",
    "clean",
    "sign",
    "sign-as",
    "sign-unverified",
    "verify",
    "max-signature-age",
    "verify-required",
    "mounts",
    "mounts-max-size",
    "mounts-helper",
];
/// Flags of `build` that only this program has, by their identifiers.
const OWN_FLAGS: [&str; 7] = [
    "cache",
    "context_mode",
    "explain",
    "require_cached",
    "min_hit_rate",
    "reports",
    "trust",
];

/// This call of the program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) name: &'a Name,
    pub(super) env: &'a Env,
    /// The arguments behind the program, as docker gave them.
    pub(super) args: &'a [OsString],
}

impl Call<'_> {
    /// Returns whether the call may go on: under the name of buildx, or where the user asks for it; not if it comes from
    /// there.
    fn may_go_on(&self) -> bool {
        let asked = || self.env.get(CACHEX_HAND_ON).and_then(parse_bool) == Some(true);
        self.env.get(GUARD).is_none() && (self.name.is_buildx() || asked())
    }

    /// Finds the real buildx; none where the call comes from it.
    ///
    /// # Errors
    ///
    /// Fails if there is none but one that does not answer.
    pub(super) fn original(&self) -> Result<Option<Original>, Silent> {
        if self.env.get(GUARD).is_some() {
            return Ok(None);
        }
        self.search().map_or(Ok(None), |search| search.run())
    }

    /// Returns where to look for the real buildx; `None` where no folder is known to look in.
    fn search(&self) -> Option<Search> {
        let own = std::env::current_exe().ok()?;
        let flag = plugin::config_flag(self.args);
        let flag = flag.as_deref().map(OsStr::to_string_lossy);
        let config_dir = config_dir(flag.as_deref(), self.env).ok()?;
        let memory = alias::memory(&config_dir);
        Some(if self.name.stands_alone() {
            let path = self.env.path("PATH").unwrap_or_else(|| "".as_ref());
            Search::stand_alone(&own, path.as_os_str(), &memory)
        } else {
            let config = ConfigFile::load(&config_dir).unwrap_or_default();
            Search::plugin(&own, &config.cli_plugins_extra_dirs, &config_dir, &memory)
        })
    }

    /// Returns the version of buildx that is told under its name: that of the real one.
    pub(super) fn version(&self) -> String {
        // Where the real one does not answer its version is not known, and a command that needs it says so.
        let found = self.original().ok().flatten();
        let found = found
            .map(|original| original.version)
            .filter(|version| !version.is_empty());
        found.unwrap_or_else(|| COVERED_VERSION.to_owned())
    }

    /// Hands a completion on, unless it is within a command that is here.
    ///
    /// # Errors
    ///
    /// Fails as [`hand_on`](Self::hand_on).
    pub(super) fn hand_on_completion(&self, words: &[OsString]) -> Result<(), CommandError> {
        let before = words.split_last().map(|(_, before)| before);
        let before = before.unwrap_or_default();
        let command = plugin::first_word(before).map(|at| &before[at]);
        let is_here = |word| super::command().find_subcommand(word).is_some();
        if command.is_some_and(is_here) {
            return Ok(());
        }
        self.hand_on()
    }

    /// Hands the call on, if it may go on and there is a real buildx; then this does not return.
    ///
    /// # Errors
    ///
    /// Fails if the real buildx cannot be started or does not answer.
    pub(super) fn hand_on(&self) -> Result<(), CommandError> {
        if !self.may_go_on() {
            return Ok(());
        }
        let original = self.original().map_err(|silent| {
            let hint = silent.hint();
            CommandError::failed(format!("cannot hand this on: {silent}")).hint(hint)
        })?;
        let Some(original) = original else {
            return Ok(());
        };
        let error = original.become_it(&plugin::renamed(self.args.to_vec(), self.name));
        let path = original.path.display();
        Err(CommandError::failed(format!(
            "cannot hand this on to {path}: {error}"
        )))
    }

    /// Hands a command on if it is not for this program.
    ///
    /// # Errors
    ///
    /// Fails as [`hand_on`](Self::hand_on).
    pub(super) fn hand_on_if_others(
        &self,
        command: &Commands,
        matches: &ArgMatches,
        context: &Context,
    ) -> Result<(), CommandError> {
        if !self.may_go_on() {
            return Ok(());
        }
        match command {
            Commands::Build(args) => self.hand_on_build(args, matches, context),
            command if is_others(command, context) => self.hand_on(),
            _ => Ok(()),
        }
    }

    /// Hands a build on if its builder is not served here, or a policy counts that only the real buildx enforces. One that
    /// asks for what only this program does stays, and is refused where its builder is not served.
    fn hand_on_build(
        &self,
        args: &BuildArgs,
        matches: &ArgMatches,
        context: &Context,
    ) -> Result<(), CommandError> {
        let is_foreign = || is_foreign(context, &[context.builder_name(None)]);
        if let Some(what) = only_here(args, matches, self.env) {
            return if is_foreign() {
                Err(left_out(&what))
            } else {
                Ok(())
            };
        }
        if !has_policy(args, self.env) && !is_foreign() {
            return Ok(());
        }
        if self.env.non_empty(CACHEX_CACHE).is_some() {
            context.ui.warning(&format!(
                "{CACHEX_CACHE} does not count: docker buildx makes this build, whose builder is not served here"
            ));
        }
        self.hand_on()
    }
}

/// Returns whether a command other than a build is for the real buildx.
fn is_others(command: &Commands, context: &Context) -> bool {
    let current = || is_foreign(context, &[context.builder_name(None)]);
    let named =
        |name: &Option<String>| is_foreign(context, &[context.builder_name(name.as_deref())]);
    match command {
        Commands::Create(args) => {
            let driver = args.driver.as_deref().unwrap_or_default();
            (!driver.is_empty() && !is_ours(driver))
                || is_stored_foreign(context, args.name.as_deref())
        }
        Commands::Inspect(args) => named(&args.name),
        Commands::Stop(args) => named(&args.name),
        Commands::Use(args) => {
            is_stored_foreign(context, context.builder_name(args.name.as_deref()))
        }
        Commands::Rm(args) if args.all_inactive => has_foreign(context),
        Commands::Rm(args) if args.names.is_empty() => current(),
        Commands::Rm(args) => {
            let all: Vec<_> = args.names.iter().map(|name| Some(name.as_str())).collect();
            is_foreign(context, &all)
        }
        // It knows all functions of Go's templates.
        Commands::Ls(args) => !args.has_known_format(),
        Commands::Du(args) => !args.has_known_format() || current(),
        Commands::DialStdio(_) | Commands::Prune(_) => current(),
        Commands::Completion(_) => true,
        _ => false,
    }
}

/// The error of a build on a builder of the real buildx's that asks for what only this program does: it would refuse that,
/// or leave it out unseen.
fn left_out(what: &str) -> CommandError {
    let error = format!("the builder is one that only the real buildx serves, which has no {what}");
    CommandError::failed(error).hint(format!(
        "name a builder of the docker-container driver with --builder or BUILDX_BUILDER (docker cachex create makes one), or do without {what}"
    ))
}

/// Returns what a build asks for that only this program does; `None` if there is nothing.
fn only_here(args: &BuildArgs, matches: &ArgMatches, env: &Env) -> Option<String> {
    let own_key = |value: &String| {
        let fields = value.split(',').filter_map(|field| field.split_once('='));
        let mut keys = fields.map(|(key, _)| key.trim().to_lowercase());
        keys.find(|key| OWN_KEYS.contains(&key.as_str()))
    };
    let mut caches = args.cache_to.iter().chain(&args.cache_from);
    if let Some(key) = caches.find_map(own_key) {
        return Some(format!("key {key} for caches"));
    }
    let build = matches.subcommand().map(|(_, build)| build);
    let given = |flag: &&&str| {
        build.is_some_and(|found| found.value_source(flag) == Some(ValueSource::CommandLine))
    };
    if let Some(flag) = OWN_FLAGS.iter().find(given) {
        let flag = if *flag == "reports" { "report" } else { flag };
        return Some(format!("flag --{}", flag.replace('_', "-")));
    }
    must_be_verified(args, env).then(|| "signed caches".to_owned())
}

/// Returns whether a build reads caches that must be verified, which the real buildx does not.
fn must_be_verified(args: &BuildArgs, env: &Env) -> bool {
    let folder = env.current_dir().join(&args.context);
    let folder = if folder.is_dir() {
        &folder
    } else {
        env.current_dir()
    };
    !args.cache_from.is_empty() && keys::is_asked_for(folder, env)
}

/// Returns whether a policy in the language Rego counts, which only the real buildx enforces.
fn has_policy(args: &BuildArgs, env: &Env) -> bool {
    match args.policy.as_slice() {
        [] => {}
        [one] => return !super::build::switches_policy_off(one),
        _ => return true,
    }
    if env.get(BUILDX_DEFAULT_POLICY).and_then(parse_bool) == Some(true) {
        return true;
    }
    let folder = env.current_dir().join(&args.context);
    let dockerfile = match args.file.as_deref() {
        Some("-") => return false,
        Some(file) => env.current_dir().join(file),
        None => folder.join("Dockerfile"),
    };
    let mut policy = dockerfile.into_os_string();
    policy.push(".rego");
    folder.is_dir() && Path::new(&policy).symlink_metadata().is_ok()
}

/// Returns whether one of these builders is of a driver that is not served here under buildx's name. One that cannot be
/// found is not.
fn is_foreign(context: &Context, names: &[Option<&str>]) -> bool {
    let Ok(docker_env) = quiet_docker_env(context) else {
        return false;
    };
    names.iter().any(|name| {
        resolve::find(&docker_env, *name)
            .is_ok_and(|found| found.is_context || !is_ours(&found.group.driver))
    })
}

/// Returns whether the store has a builder of the name and of a driver that is not served.
fn is_stored_foreign(context: &Context, name: Option<&str>) -> bool {
    let group = quiet_docker_env(context)
        .ok()
        .and_then(|docker_env| stored(&docker_env, name?));
    group.is_some_and(|group| !is_ours(&group.driver))
}

fn stored(docker_env: &DockerEnv, name: &str) -> Option<NodeGroup> {
    docker_env.store().get(name).ok().flatten()
}

fn has_foreign(context: &Context) -> bool {
    let groups = quiet_docker_env(context)
        .ok()
        .and_then(|docker_env| docker_env.store().list().ok());
    let groups = groups.unwrap_or_default();
    groups.iter().any(|group| !is_ours(&group.driver))
}

fn is_ours(driver: &str) -> bool {
    matches!(driver, "docker-container" | "remote")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_program_does_is_known() {
        let root = crate::cli::command();
        let build = root.find_subcommand("build").unwrap();
        for flag in OWN_FLAGS {
            assert!(
                build.get_arguments().any(|arg| arg.get_id() == flag),
                "{flag}"
            );
        }
        let env = Env::from_pairs([("A", "")], "/nowhere");
        for (values, expected) in [
            (&["type=registry,ref=a,mode=max"][..], None),
            (
                &["a:cache", "type=registry,ref=a, Via=client"],
                Some("key via for caches"),
            ),
            (&["type=registry,merge=true"], Some("key merge for caches")),
            (&["type=gha,scope=merge"], None),
        ] {
            let args = BuildArgs {
                cache_to: values.iter().map(|value| (*value).to_owned()).collect(),
                ..BuildArgs::default()
            };
            let found = only_here(&args, &ArgMatches::default(), &env);
            assert_eq!(found.as_deref(), expected, "{values:?}");
        }
    }

    #[test]
    fn what_must_be_verified_is_not_handed_on() {
        let dir = tempfile::tempdir().unwrap();
        let env =
            |keys: &str| Env::from_pairs([(crate::env::CACHEX_VERIFY_KEYS, keys)], dir.path());
        let reads = |caches: &[&str]| BuildArgs {
            cache_from: caches.iter().map(|value| (*value).to_owned()).collect(),
            context: ".".to_owned(),
            ..BuildArgs::default()
        };
        assert!(!must_be_verified(&reads(&["a:cache"]), &env("")));
        assert!(must_be_verified(&reads(&["a:cache"]), &env("a.pub")));
        assert!(!must_be_verified(&reads(&[]), &env("a.pub")));
        fs_err::create_dir(dir.path().join(".cachex")).unwrap();
        fs_err::write(dir.path().join(".cachex/trust.toml"), "").unwrap();
        assert!(must_be_verified(&reads(&["a:cache"]), &env("")));
        let remote = BuildArgs {
            context: "https://example.com/a.git".to_owned(),
            ..reads(&["a:cache"])
        };
        assert!(must_be_verified(&remote, &env("")));
    }
}

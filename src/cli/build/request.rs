//! From the arguments as typed to a typed request; nothing is read but the environment it is given.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::args::BuildArgs;
use super::finish;
use bollard_buildkit_proto::moby::buildkit::v1::sourcepolicy::Policy;

use crate::build::context::inputs::InputSpec;
use crate::build::context::inputs::remote::is_git_ssh;
use crate::build::context::policy::PolicyError;
use crate::build::context::source_policy;
use crate::build::context::vcs::VcsOptions;
use crate::build::output::local_delete;
use crate::build::output::provenance;
use crate::build::request::{BuildRequest, Network, NoCache, StepWishes};
use crate::cli::Context;
use crate::env::{self, Env};
use crate::error::CommandError;
use crate::options::add_host::AddHost;
use crate::options::attest::{self, Attest, Attests};
use crate::options::boolean::parse_bool;
use crate::options::call::Call;
use crate::options::context_mode::ContextMode;
use crate::options::entitlement::Entitlements;
use crate::options::explain::{Explain, HitRate};
use crate::options::output::{self, Output, OutputType};
use crate::options::platform::Platform;
use crate::options::secret::{Secret, SecretSource};
use crate::options::ssh::{DEFAULT_ID, Ssh};
use crate::options::tag::Tag;
use crate::options::{OptionError, annotation, build_arg, build_context, label, resource};

/// Build argument that keeps the folder `.git` in a context from Git.
const KEEP_GIT_DIR_ARG: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// The files that are written after the build.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    /// Gets the image identifier.
    pub iidfile: Option<PathBuf>,
    /// Gets the metadata.
    pub metadata: Option<PathBuf>,
    /// How much of the provenance the metadata has.
    pub provenance: provenance::Mode,
}

mod caches;

/// Creates the request, and the warnings about what is wrong in it and does no harm. The inputs' node identifier and the proxies are filled in by the caller, which
/// knows the store and the docker config.
///
/// # Errors
///
/// Fails with the flag's name where a value is wrong, or where flags contradict each other.
pub(super) fn resolve(
    args: &BuildArgs,
    ctx: &Context,
) -> Result<(BuildRequest, Files, Vec<String>), CommandError> {
    let env = &ctx.env;
    let mut warnings = Vec::new();
    let policy_off = policy_is_off(args, env)?;
    let files = Files {
        iidfile: path(env, args.iidfile.as_deref()),
        metadata: path(env, args.metadata_file.as_deref()),
        provenance: provenance::Mode::parse(
            env.get(env::BUILDX_METADATA_PROVENANCE).unwrap_or_default(),
        ),
    };
    // The texts about these pairs are those of buildx as they are.
    let build_args = build_arg::parse_list(&args.build_args, |name| variable(env, name))
        .map_err(CommandError::failed)?;
    let inputs = inputs(args, &build_args, env)?;
    let ssh = ssh(args, &inputs)?;
    let request = BuildRequest {
        inputs,
        build_args,
        labels: label::parse_list(&args.labels).map_err(CommandError::failed)?,
        tags: flag("tag", Tag::parse_list(&args.tags))?,
        annotations: flag("annotation", annotation::parse_list(&args.annotations))?,
        target: args.target.clone(),
        platforms: platforms(args, env)?,
        outputs: outputs(args, &files)?,
        cache_to: caches::written(&args.cache_to, env)?,
        call: call(args)?,
        cache_from: caches::read(&args.cache_from, env, &mut warnings)?,
        attests: attests(args)?,
        default_provenance: !switched(env, env::BUILDX_NO_DEFAULT_ATTESTATIONS)?,
        no_oci_artifact: switched(env, env::BUILDX_NO_DEFAULT_OCI_ARTIFACT)?,
        source_policy: source_policy(env)?,
        policy_off,
        resources: flag(
            "resource",
            resource::parse_list(&[args.legacy.resources(), args.resources.clone()].concat()),
        )?,
        secrets: secrets(args, env, &mut warnings)?,
        ssh,
        allow: flag("allow", Entitlements::parse_list(&args.allow))?,
        network: network(args.network.as_deref())?,
        add_hosts: flag("add-host", AddHost::parse_list(&args.add_hosts))?,
        shm_size: args.shm_size.unwrap_or_default(),
        ulimits: args.ulimits.clone(),
        cgroup_parent: args.cgroup_parent.clone(),
        no_cache: no_cache(args)?,
        pull: args.pull,
        vcs: vcs(env),
        steps: steps(args, env)?,
    };
    let is_call = request.call.is_some();
    if is_call {
        gates(&request.steps)?;
    }
    local_deletes(&request, env)?;
    Ok((
        without_results_of_calls(request),
        without_useless_facts(files, is_call),
        warnings,
    ))
}

/// The provenance is of a build and for the metadata file alone.
fn without_useless_facts(mut files: Files, is_call: bool) -> Files {
    if is_call || files.metadata.is_none() {
        files.provenance = provenance::Mode::Disabled;
    }
    files
}

/// A question to the frontend has no result that could go anywhere.
fn without_results_of_calls(mut request: BuildRequest) -> BuildRequest {
    if request.call.is_some() {
        request.outputs.clear();
        request.cache_to.clear();
    }
    request
}

/// Adds the name of the flag to the error of its value.
fn flag<T>(name: &str, result: Result<T, OptionError>) -> Result<T, CommandError> {
    result.map_err(|error| CommandError::failed(format!("invalid --{name}: {error}")))
}

/// The value of a variable that goes to the builder as it is.
fn variable(env: &Env, name: &str) -> Result<Option<String>, OptionError> {
    let value = env.exact(name);
    let value = value.map_err(|error| OptionError::other(error.to_string()))?;
    Ok(value.map(str::to_owned))
}

fn attests(args: &BuildArgs) -> Result<Attests, CommandError> {
    let mut list = Vec::new();
    for value in &args.attests {
        list.push(flag("attest", Attest::parse(value))?);
    }
    for (kind, value) in [("provenance", &args.provenance), ("sbom", &args.sbom)] {
        let value = value.as_deref().unwrap_or_default();
        list.extend(flag(kind, Attest::parse_shorthand(kind, value))?);
    }
    Ok(attest::merge(list))
}

/// A variable that is not set is an empty secret, as in buildx; it is more likely a mistake.
fn secrets(
    args: &BuildArgs,
    env: &Env,
    warnings: &mut Vec<String>,
) -> Result<Vec<Secret>, CommandError> {
    let secrets = flag("secret", Secret::parse_list(&args.secrets))?;
    for secret in &secrets {
        if let SecretSource::Env(name) = &secret.source
            && env.bytes(name).is_none()
        {
            warnings.push(format!(
                "the secret {:?} is empty: the environment variable {name} is not set",
                secret.id
            ));
        }
    }
    Ok(secrets)
}

fn call(args: &BuildArgs) -> Result<Option<Call>, CommandError> {
    if args.check {
        return flag("check", Call::parse("check"));
    }
    match args.call.as_deref().or(args.print.as_deref()) {
        Some(text) => flag("call", Call::parse(text)),
        None => Ok(None),
    }
}

fn inputs(
    args: &BuildArgs,
    build_args: &BTreeMap<String, String>,
    env: &Env,
) -> Result<InputSpec, CommandError> {
    if args.context.is_empty() {
        return Err(CommandError::failed(
            "please specify build context (e.g. \".\" for the current directory)",
        ));
    }
    let named = flag(
        "build-context",
        build_context::parse_list(&args.build_contexts),
    )?;
    let mode = args.context_mode.as_deref().map(ContextMode::parse);
    Ok(InputSpec {
        context: args.context.clone(),
        dockerfile: args.file.clone(),
        named: named.into_iter().collect(),
        current_dir: env.current_dir().to_owned(),
        // What is no such value counts as false, as in buildx.
        git_query_as_input: env
            .get(env::BUILDX_SEND_GIT_QUERY_AS_INPUT)
            .and_then(parse_bool)
            .unwrap_or(false),
        keep_git_dir: build_args
            .get(KEEP_GIT_DIR_ARG)
            .and_then(|text| parse_bool(text)),
        mode: flag("context-mode", mode.transpose())?,
    })
}

fn steps(args: &BuildArgs, env: &Env) -> Result<StepWishes, CommandError> {
    let explain = match (&args.explain, env.non_empty(env::CACHEX_EXPLAIN)) {
        (Some(text), _) => flag("explain", Explain::parse(text))?,
        (None, Some(text)) => Explain::parse(text).map_err(|error| {
            CommandError::failed(format!("invalid {}: {error}", env::CACHEX_EXPLAIN))
        })?,
        (None, None) => Explain::Auto,
    };
    let rate = args.min_hit_rate.as_deref().map(HitRate::parse);
    Ok(StepWishes {
        explain,
        require_cached: args.require_cached,
        min_hit_rate: flag("min-hit-rate", rate.transpose())?,
        is_reported: false,
    })
}

/// Refuses what ends a build whose steps run, where none would.
///
/// # Errors
///
/// Fails if one of these flags was given.
pub(super) fn gates(steps: &StepWishes) -> Result<(), CommandError> {
    let flag = match (steps.require_cached, steps.min_hit_rate) {
        (true, _) => "--require-cached",
        (_, Some(_)) => "--min-hit-rate",
        (false, None) => return Ok(()),
    };
    let error = format!("{flag} is for builds: here no step runs that could be refused");
    let hint =
        "docker cachex cache explain --exit-code [BUILD OPTIONS] PATH tells whether one would run";
    Err(CommandError::failed(error).hint(hint))
}

fn path(env: &Env, text: Option<&str>) -> Option<PathBuf> {
    text.filter(|t| !t.is_empty())
        .map(|t| env.current_dir().join(t))
}

fn outputs(args: &BuildArgs, files: &Files) -> Result<Vec<Output>, CommandError> {
    let outputs = flag("output", Output::parse_list(&args.outputs))?;
    let no_image = |o: &Output| matches!(o.kind, OutputType::Local | OutputType::Tar);
    if files.iidfile.is_some() && outputs.iter().any(no_image) {
        return Err(CommandError::failed(
            "local and tar exporters are incompatible with image ID file",
        ));
    }
    Ok(output::apply_push_load(outputs, args.push, args.load))
}

fn local_deletes(request: &BuildRequest, env: &Env) -> Result<(), CommandError> {
    if request.allow.local_delete {
        return Ok(());
    }
    local_delete::check(&request.outputs, env.current_dir()).map_err(CommandError::failed)
}

fn no_cache(args: &BuildArgs) -> Result<NoCache, CommandError> {
    match (args.no_cache, args.no_cache_filter.is_empty()) {
        (true, false) => Err(CommandError::failed(
            "--no-cache and --no-cache-filter cannot currently be used together",
        )),
        (true, true) => Ok(NoCache::Always),
        (false, false) => Ok(NoCache::Stages(args.no_cache_filter.clone())),
        (false, true) => Ok(NoCache::Never),
    }
}

fn network(mode: Option<&str>) -> Result<Network, CommandError> {
    match mode {
        None | Some("" | "default") => Ok(Network::Default),
        Some("host") => Ok(Network::Host),
        Some("none") => Ok(Network::None),
        Some(other) => Err(CommandError::failed(format!(
            "network mode {other:?} not supported by buildkit"
        ))
        .hint("a network for the whole builder is set with docker cachex create --driver-opt network=NAME")),
    }
}

/// A variable that must be a truth value; false where it is not set.
fn switched(env: &Env, name: &str) -> Result<bool, CommandError> {
    match env.non_empty(name) {
        None => Ok(false),
        Some(text) => parse_bool(text).ok_or_else(|| {
            CommandError::failed(format!("invalid {name} {text:?}: use true or false"))
        }),
    }
}

fn platforms(args: &BuildArgs, env: &Env) -> Result<Vec<Platform>, CommandError> {
    if !args.platforms.is_empty() {
        return flag("platform", Platform::parse_list(&args.platforms));
    }
    let name = env::DOCKER_DEFAULT_PLATFORM;
    let default = env
        .non_empty(name)
        .map_or(Ok(Vec::new()), |text| Platform::parse_list(&[text]));
    default.map_err(|error| CommandError::failed(format!("invalid {name}: {error}")))
}

/// A Git repository that is reached by SSH needs an agent without being told.
fn ssh(args: &BuildArgs, inputs: &InputSpec) -> Result<Vec<Ssh>, CommandError> {
    let list = flag("ssh", Ssh::parse_list(&args.ssh))?;
    if list.is_empty() && inputs.context_is_remote() && is_git_ssh(&args.context) {
        return flag("ssh", Ssh::parse_list(&[DEFAULT_ID]));
    }
    Ok(list)
}

fn source_policy(env: &Env) -> Result<Option<Policy>, CommandError> {
    let path = env.path(env::EXPERIMENTAL_BUILDKIT_SOURCE_POLICY);
    path.map(|path| source_policy::read(&env.current_dir().join(path)))
        .transpose()
        .map_err(CommandError::failed)
}

/// Refuses policies, which decide what a build may use and must not be passed over. Returns whether
/// the user switched them off.
fn policy_is_off(args: &BuildArgs, env: &Env) -> Result<bool, CommandError> {
    let off = match args.policy.as_slice() {
        [] => false,
        [one] if switches_policy_off(one) => true,
        _ => {
            return Err(CommandError::failed(
                "--policy is not supported by this version of cachex, but for disabled=true alone",
            )
            .hint("docker buildx build takes it, on the same builder"));
        }
    };
    // What is no such value counts as false, as in buildx.
    let default = env
        .get(env::BUILDX_DEFAULT_POLICY)
        .and_then(parse_bool)
        .unwrap_or(false);
    if default && !off {
        return Err(finish::failure(PolicyError::Default.into()));
    }
    Ok(off)
}

/// Returns whether a value of `--policy` switches all policies off.
pub fn switches_policy_off(policy: &str) -> bool {
    policy.split_once('=').is_some_and(|(key, value)| {
        key.trim().eq_ignore_ascii_case("disabled") && parse_bool(value) == Some(true)
    })
}

fn vcs(env: &Env) -> VcsOptions {
    let switch = |name| env.non_empty(name).and_then(parse_bool);
    let labels = env.get(env::BUILDX_GIT_LABELS);
    VcsOptions {
        info: switch(env::BUILDX_GIT_INFO).unwrap_or(true),
        // "full" is an older spelling.
        labels: labels == Some("full") || switch(env::BUILDX_GIT_LABELS).unwrap_or(false),
        check_dirty: switch(env::BUILDX_GIT_CHECK_DIRTY).unwrap_or(false),
        names_repository: env.non_empty(env::GIT_DIR).is_some(),
    }
}

#[cfg(test)]
mod tests;

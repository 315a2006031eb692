//! The arguments of `build`, as typed by the user: syntax only, no meaning yet.

#![expect(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "the doc comments are help text, in which brackets mark what is optional"
)]

use clap::Args;

use crate::options::ulimit::Ulimit;
use crate::options::{OptionError, csv, size};

/// Build an image, or files, from a Dockerfile
///
/// The registry cache named by --cache-to is written beside the image and read by --cache-from;
/// both may be given several times.
#[derive(Debug, Clone, Default, Args)]
#[command(disable_help_flag = false)]
#[expect(
    clippy::struct_field_names,
    reason = "a field has the name of its flag"
)]
pub struct BuildArgs {
    /// Folder, URL or `-` (standard input) to build from
    #[arg(value_name = "PATH | URL | -", value_hint = clap::ValueHint::DirPath)]
    pub context: String,

    /// Host name and address for RUN steps to know (format: "host:ip")
    #[arg(long = "add-host", value_name = "strings", value_parser = csv_line)]
    pub add_hosts: Vec<String>,

    /// Privilege that the build may use ("network.host", "security.insecure", "device")
    #[arg(long = "allow", value_name = "stringArray")]
    pub allow: Vec<String>,

    /// Annotation of the image (format: "[type:]key=value")
    #[arg(long = "annotation", value_name = "stringArray")]
    pub annotations: Vec<String>,

    /// Attestation to make (format: "type=sbom,generator=image")
    #[arg(long = "attest", value_name = "stringArray")]
    pub attests: Vec<String>,

    /// Build argument; without a value it is taken from the environment
    #[arg(long = "build-arg", value_name = "stringArray")]
    pub build_args: Vec<String>,

    /// Further context with a name (format: "name=path")
    #[arg(long = "build-context", value_name = "stringArray")]
    pub build_contexts: Vec<String>,

    /// Repository whose caches are chosen by branch and pull request (e.g. "user/app-cache", "off")
    #[arg(long = "cache", value_name = "string")]
    pub cache: Option<String>,

    /// Cache to read (e.g. "user/app:cache", "type=registry,ref=user/app:cache")
    #[arg(long = "cache-from", value_name = "stringArray")]
    pub cache_from: Vec<String>,

    /// Cache to write (e.g. "user/app:cache", "type=registry,ref=user/app:cache,mode=max")
    #[arg(long = "cache-to", value_name = "stringArray")]
    pub cache_to: Vec<String>,

    /// Permissions of the files of folders that are built ("as-is", "git": only whether a file may be run)
    #[arg(long = "context-mode", value_name = "string")]
    pub context_mode: Option<String>,

    /// Ask for another result than a build ("check", "outline", "targets")
    #[arg(long = "call", value_name = "string", overrides_with_all = ["check", "print"])]
    pub call: Option<String>,

    /// Cgroup that RUN steps are put under
    #[arg(long = "cgroup-parent", value_name = "string")]
    pub cgroup_parent: Option<String>,

    /// Same as --call=check
    #[arg(long)]
    pub check: bool,

    /// Tell why steps ran though a cache was read ("auto", "full", "off")
    #[arg(long, value_name = "string")]
    pub explain: Option<String>,

    /// Dockerfile (default: "PATH/Dockerfile")
    #[arg(short = 'f', long = "file", value_name = "string")]
    pub file: Option<String>,

    /// File to write the image identifier to
    #[arg(long, value_name = "string")]
    pub iidfile: Option<String>,

    /// Label of the image
    #[arg(long = "label", value_name = "stringArray")]
    pub labels: Vec<String>,

    /// Same as --output=type=docker: load the image into the Docker Engine
    #[arg(long)]
    pub load: bool,

    /// File to write facts about the result to
    #[arg(long = "metadata-file", value_name = "string")]
    pub metadata_file: Option<String>,

    /// Exit with code 3 if fewer of the steps came out of caches (format: "80%")
    #[arg(long = "min-hit-rate", value_name = "rate")]
    pub min_hit_rate: Option<String>,

    /// Network of RUN steps ("default", "host", "none")
    #[arg(long, value_name = "string")]
    pub network: Option<String>,

    /// Do not use any cache
    #[arg(long = "no-cache")]
    pub no_cache: bool,

    /// Stage that is built without cache
    #[arg(long = "no-cache-filter", value_name = "stringArray")]
    pub no_cache_filter: Vec<String>,

    /// Where the result goes (format: "type=local,dest=path")
    #[arg(short = 'o', long = "output", value_name = "stringArray")]
    pub outputs: Vec<String>,

    /// Platform to build for
    #[arg(long = "platform", value_name = "stringArray")]
    pub platforms: Vec<String>,

    /// Policy for sources; only "disabled=true" is served
    #[arg(long = "policy", value_name = "stringArray")]
    pub policy: Vec<String>,

    /// How progress is shown ("auto", "none", "plain", "quiet", "rawjson", "tty")
    #[arg(long, value_name = "string")]
    pub progress: Option<String>,

    /// Same as --attest=type=provenance
    #[arg(long, value_name = "string")]
    pub provenance: Option<String>,

    /// Ask the registry for a newer version of every base image
    #[arg(long)]
    pub pull: bool,

    /// Same as --output=type=registry: push the image
    #[arg(long)]
    pub push: bool,

    /// Show no progress, print the image identifier at the end
    #[arg(short = 'q', long)]
    pub quiet: bool,

    /// Report on the build: form, and file or "-" (format: "md|json|html[=file]")
    #[arg(long = "report", value_name = "stringArray")]
    pub reports: Vec<String>,

    /// End the build with exit code 3 at the first step that would run
    #[arg(long = "require-cached")]
    pub require_cached: bool,

    /// Limit of RUN steps (format: "memory=2g", "cpu-quota=50000")
    #[arg(long = "resource", value_name = "stringArray")]
    pub resources: Vec<String>,

    /// Same as --attest=type=sbom
    #[arg(long, value_name = "string")]
    pub sbom: Option<String>,

    /// Secret for RUN --mount=type=secret (format: "id=mysecret[,src=/local/secret]")
    #[arg(long = "secret", value_name = "stringArray")]
    pub secrets: Vec<String>,

    /// Size of /dev/shm of RUN steps
    #[arg(long = "shm-size", value_name = "bytes", value_parser = size::ram_in_bytes)]
    pub shm_size: Option<u64>,

    /// SSH agent for RUN --mount=type=ssh (format: "default|<id>[=<socket>|<key>[,<key>]]")
    #[arg(long = "ssh", value_name = "stringArray")]
    pub ssh: Vec<String>,

    /// Name of the image (format: "[registry/]repository[:tag]")
    #[arg(short = 't', long = "tag", value_name = "stringArray")]
    pub tags: Vec<String>,

    /// Stage to build
    #[arg(long, value_name = "string")]
    pub target: Option<String>,

    /// Trust file, which says whose caches are read (default: ".cachex/trust.toml" in the repository)
    #[arg(long, value_name = "string")]
    pub trust: Option<String>,

    /// Limit of RUN steps (format: "name=soft[:hard]")
    #[arg(long = "ulimit", value_name = "ulimit", value_parser = Ulimit::parse)]
    pub ulimits: Vec<Ulimit>,

    /// Older name of --call
    #[arg(long, hide = true, value_name = "string")]
    pub print: Option<String>,

    #[command(flatten)]
    // A doc comment would become help text of the command.
    pub legacy: LegacyArgs,
}

/// Flags of the classic builder that buildx takes and does not use; they are hidden.
#[derive(Debug, Clone, Default, Args)]
pub struct LegacyArgs {
    /// Not used by BuildKit
    #[arg(long, hide = true)]
    pub compress: bool,
    /// Not used by BuildKit
    #[arg(long, hide = true)]
    pub isolation: Option<String>,
    /// Not used by BuildKit
    #[arg(long = "security-opt", hide = true, value_parser = csv_line)]
    pub security_opt: Vec<String>,
    /// Not used by BuildKit
    #[arg(long, hide = true)]
    pub squash: Option<bool>,
    /// Same as --resource=memory=
    #[arg(short = 'm', long, hide = true)]
    pub memory: Option<String>,
    /// Same as --resource=memory-swap=
    #[arg(long = "memory-swap", hide = true)]
    pub memory_swap: Option<String>,
    /// Same as --resource=cpu-shares=
    #[arg(short = 'c', long = "cpu-shares", hide = true)]
    pub cpu_shares: Option<String>,
    /// Same as --resource=cpu-period=
    #[arg(long = "cpu-period", hide = true)]
    pub cpu_period: Option<String>,
    /// Same as --resource=cpu-quota=
    #[arg(long = "cpu-quota", hide = true)]
    pub cpu_quota: Option<String>,
    /// Same as --resource=cpuset-cpus=
    #[arg(long = "cpuset-cpus", hide = true)]
    pub cpuset_cpus: Option<String>,
    /// Same as --resource=cpuset-mems=
    #[arg(long = "cpuset-mems", hide = true)]
    pub cpuset_mems: Option<String>,
    /// Not used by BuildKit
    #[arg(long, hide = true)]
    pub rm: bool,
    /// Not used by BuildKit
    #[arg(long = "force-rm", hide = true)]
    pub force_rm: bool,
}

impl LegacyArgs {
    /// Returns a sentence for each flag that was given and changes what the user expects, as buildx
    /// warns.
    pub fn warnings(&self) -> Vec<String> {
        let given = [
            ("isolation", self.isolation.is_some()),
            ("security-opt", !self.security_opt.is_empty()),
            ("squash", self.squash.is_some()),
        ];
        given
            .into_iter()
            .filter(|(_, given)| *given)
            .map(|(name, _)| format!("--{name} has no effect with BuildKit and is left out"))
            .collect()
    }

    /// Returns the flags that are older forms of `--resource`, in that form.
    pub fn resources(&self) -> Vec<String> {
        let given = [
            ("memory", self.memory.clone()),
            ("memory-swap", self.memory_swap.clone()),
            ("cpu-shares", self.cpu_shares.clone()),
            ("cpu-period", self.cpu_period.clone()),
            ("cpu-quota", self.cpu_quota.clone()),
            ("cpuset-cpus", self.cpuset_cpus.clone()),
            ("cpuset-mems", self.cpuset_mems.clone()),
        ];
        given
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", value?)))
            .collect()
    }
}

/// Checks that a value is a line of comma-separated fields, or empty.
fn csv_line(text: &str) -> Result<String, OptionError> {
    if !text.is_empty() {
        csv::fields(text)?;
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _, Parser};

    use super::*;
    use crate::cli::pflag::like_pflag;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: BuildArgs,
    }

    fn parse(args: &[&str]) -> Result<BuildArgs, clap::Error> {
        let words = std::iter::once("build").chain(args.iter().copied());
        let matches = like_pflag(Cli::command()).try_get_matches_from(words)?;
        Cli::from_arg_matches(&matches).map(|cli| cli.args)
    }

    #[test]
    fn boolean_flags_take_a_value_only_after_an_equals_sign() {
        let args = parse(&["--push", "--pull=0", "-q", "."]).unwrap();
        assert!(args.push && !args.pull && args.quiet);
        assert_eq!(args.context, ".");
        assert!(parse(&["--push=maybe", "."]).is_err());
    }

    #[test]
    fn lines_of_fields_are_checked() {
        let args = parse(&["--add-host", r#"a:1.1.1.1,"b=::1,::2""#, "--add-host=", "."]);
        assert_eq!(args.unwrap().add_hosts, [r#"a:1.1.1.1,"b=::1,::2""#, ""]);
        assert!(parse(&[r#"--add-host=a"b"#, "."]).is_err());
        assert!(parse(&[r#"--security-opt=a"b"#, "."]).is_err());
    }

    #[test]
    fn unused_flags_are_taken_and_named() {
        let args = parse(&["--isolation=x", "--rm", "--compress", "--squash=0", "."]).unwrap();
        let warnings = args.legacy.warnings().join("\n");
        assert!(warnings.contains("--isolation ") && warnings.contains("--squash "));
        assert!(!warnings.contains("--rm") && !warnings.contains("compress"));
    }

    #[test]
    fn older_flags_are_resources() {
        let args = parse(&["-m", "1g", "--memory-swap", "-1", "-c", "5", "."]).unwrap();
        let expected = ["memory=1g", "memory-swap=-1", "cpu-shares=5"];
        assert_eq!(args.legacy.resources(), expected);
    }

    #[test]
    fn a_context_is_needed() {
        assert!(parse(&[]).is_err());
        assert!(parse(&["a", "b"]).is_err());
    }
}

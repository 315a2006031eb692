use clap::{CommandFactory as _, FromArgMatches as _};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::ui::Ui;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: BuildArgs,
}

fn resolve_with(
    args: &[&str],
    env: &[(&str, &str)],
) -> Result<(BuildRequest, Files), CommandError> {
    resolve_warned(args, env).map(|(request, files, _)| (request, files))
}

fn resolve_warned<V: AsRef<std::ffi::OsStr> + Copy>(
    args: &[&str],
    env: &[(&str, V)],
) -> Result<(BuildRequest, Files, Vec<String>), CommandError> {
    let words = std::iter::once("build").chain(args.iter().copied());
    let matches = crate::cli::pflag::like_pflag(Cli::command())
        .try_get_matches_from(words)
        .unwrap();
    let args = Cli::from_arg_matches(&matches).unwrap().args;
    let ctx = Context {
        name: crate::plugin::Name::default(),
        env: Env::from_pairs(env.iter().copied(), "/home/me"),
        ui: Ui::from_process(),
        global: crate::cli::GlobalFlags::default(),
        cancel: CancellationToken::new(),
        hurry: CancellationToken::new(),
        orderly: tokio_util::task::TaskTracker::new(),
    };
    resolve(&args, &ctx)
}

fn error(args: &[&str]) -> String {
    resolve_with(args, &[]).unwrap_err().message()
}

#[test]
fn wrong_values_name_their_flag() {
    for (flag, value) in [
        ("cache-to", "type=registry,ref=a,mod=max"),
        ("cache-from", "type=registry,ref"),
        ("output", "type=nope"),
        ("platform", "a/b/c/d/e"),
        ("secret", "src=x"),
        ("tag", "UPPER/x:y:z"),
        ("allow", "nope"),
        ("add-host", "x"),
        ("build-context", "x"),
        ("attest", "x"),
        ("provenance", "foo"),
        ("sbom", "foo"),
        ("annotation", "x"),
    ] {
        let error = error(&[&format!("--{flag}={value}"), "."]);
        assert!(error.starts_with(&format!("invalid --{flag}: ")), "{error}");
    }
    for flag in ["label", "build-arg"] {
        let error = error(&[&format!("--{flag}==X"), "."]);
        assert_eq!(error, r#"invalid key-value pair "=X": empty key"#);
    }
    assert!(error(&["--network=bridge", "."]).contains("network mode"));
    assert!(error(&["--no-cache", "--no-cache-filter=a", "."]).contains("together"));
    assert!(error(&["--iidfile=x", "-o", "out", "."]).contains("incompatible"));
    assert!(error(&["--call=a,b", "."]).contains("--call"));
    assert!(error(&[""]).contains("build context"));
}

#[test]
fn caches_to_read_are_left_out_with_a_warning() {
    let none: [(&str, &str); 0] = [];
    let args = [
        "--cache-from=x/Y",
        "--cache-from=type=registry,ref=a,platform=linux/amd64",
        "--cache-from=type=local,src=d,digest=x",
        "--cache-from=b",
        ".",
    ];
    let (request, _, warnings) = resolve_warned(&args, &none).unwrap();
    assert_eq!(request.cache_from.len(), 2);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(
        warnings
            .iter()
            .all(|text| text.starts_with("--cache-from: "))
    );
    assert!(error(&["--cache-to=x/Y", "."]).starts_with("invalid --cache-to: "));
}

#[test]
fn an_unset_variable_is_an_empty_secret_with_a_warning() {
    let env = [("SET", "x"), ("EMPTY", "")];
    let args = ["--secret=id=a,env=SET", "--secret=id=b,env=EMPTY", "."];
    assert!(resolve_warned(&args, &env).unwrap().2.is_empty());
    let args = ["--secret=id=a,env=UNSET", "."];
    let (request, _, warnings) = resolve_warned(&args, &env).unwrap();
    assert_eq!(request.secrets.len(), 1);
    let expected = r#"the secret "a" is empty: the environment variable UNSET is not set"#;
    assert_eq!(warnings, [expected]);
}

#[test]
fn what_is_no_text_is_not_sent_as_something_else() {
    use std::os::unix::ffi::OsStrExt as _;

    let bytes = std::ffi::OsStr::from_bytes(b"a\xff");
    let failure = |args: &[&str], name| {
        let result = resolve_warned(args, &[(name, bytes)]);
        result.unwrap_err().message()
    };
    for (args, name) in [
        (&["--build-arg=A", "."][..], "A"),
        (&["."], "SOURCE_DATE_EPOCH"),
        (&["--cache-to=type=gha", "."], "ACTIONS_RUNTIME_TOKEN"),
        (&["--cache-to=type=s3", "."], "AWS_SECRET_ACCESS_KEY"),
    ] {
        let text = failure(args, name);
        let expected = format!("the value of the environment variable {name} is not UTF-8");
        assert!(text.contains(&expected), "{text}");
    }
    assert!(failure(&["."], env::DOCKER_DEFAULT_PLATFORM).contains("DOCKER_DEFAULT_PLATFORM"));
    assert!(failure(&["."], env::BUILDX_NO_DEFAULT_ATTESTATIONS).contains("true or false"));
    let args = ["--cache-from=type=gha", "--secret=id=a,env=S", "."];
    let (request, _, warnings) =
        resolve_warned(&args, &[("ACTIONS_RUNTIME_TOKEN", bytes)]).unwrap();
    assert!(request.cache_from.is_empty());
    assert!(
        warnings
            .iter()
            .any(|text| text.contains("ACTIONS_RUNTIME_TOKEN"))
    );
}

#[test]
fn calls() {
    for (args, name) in [
        (&["--call=build", "."][..], None),
        (&["--call=outline", "."], Some("outline")),
        (&["--print=targets", "."], Some("targets")),
        (&["--check", "."], Some("lint")),
        (&["--check=false", "."], None),
    ] {
        let call = resolve_with(args, &[]).unwrap().0.call;
        assert_eq!(call.as_ref().map(|c| c.name.as_str()), name, "{args:?}");
    }
    // A question has no result that could go anywhere.
    let args = ["--check", "--push", "-t=a/b", "-o=x", "--cache-to=a/c", "."];
    let (request, _) = resolve_with(&args, &[]).unwrap();
    assert!(request.outputs.is_empty() && request.cache_to.is_empty());
    // Nor can any of its steps be refused.
    for gate in ["--require-cached", "--min-hit-rate=80%"] {
        for call in ["--check", "--call=outline"] {
            let error = error(&[call, gate, "."]);
            let (flag, _) = gate.split_once('=').unwrap_or((gate, ""));
            assert!(
                error.starts_with(&format!("{flag} is for builds")),
                "{error}"
            );
        }
        assert!(resolve_with(&["--call=build", gate, "."], &[]).is_ok());
    }
}

#[test]
fn environment_decides_defaults() {
    let env = [
        ("BUILDX_NO_DEFAULT_ATTESTATIONS", "1"),
        ("BUILDX_GIT_INFO", "false"),
    ];
    let (request, _) = resolve_with(&["."], &env).unwrap();
    assert!(!request.default_provenance);
    assert!(!request.vcs.info);
    let (request, _) = resolve_with(&["--build-arg=HOME_DIR", "."], &[("HOME_DIR", "/x")]).unwrap();
    assert_eq!(request.build_args["HOME_DIR"], "/x");
    assert!(request.default_provenance && request.vcs.info && !request.vcs.labels);
    assert!(resolve_with(&["."], &[("BUILDX_NO_DEFAULT_ATTESTATIONS", "maybe")]).is_err());
}

#[test]
fn the_environment_gives_platforms_sources_and_caches() {
    let env = [("DOCKER_DEFAULT_PLATFORM", "linux/386,linux/arm64")];
    let shown = |args: &[&str], env: &[(&str, &str)]| -> Vec<String> {
        let (request, _) = resolve_with(args, env).unwrap();
        request.platforms.iter().map(ToString::to_string).collect()
    };
    assert_eq!(shown(&["."], &env), ["linux/386", "linux/arm64"]);
    assert_eq!(
        shown(&["--platform=linux/arm", "."], &env),
        ["linux/arm/v7"]
    );
    assert!(shown(&["."], &[("DOCKER_DEFAULT_PLATFORM", "")]).is_empty());
    let wrong = resolve_with(&["."], &[("DOCKER_DEFAULT_PLATFORM", "a/b/c/d")]);
    assert!(
        wrong
            .unwrap_err()
            .message()
            .contains("DOCKER_DEFAULT_PLATFORM")
    );
    let missing = resolve_with(
        &["."],
        &[("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", "/no/file")],
    );
    assert!(missing.unwrap_err().message().contains("policy file"));
    let gha = ["--cache-to=type=gha", "--cache-from=type=gha", "."];
    let (request, _) = resolve_with(&gha, &[]).unwrap();
    assert!(request.cache_to.is_empty() && request.cache_from.is_empty());
    let env = [("ACTIONS_RUNTIME_TOKEN", "t"), ("ACTIONS_CACHE_URL", "u")];
    let (request, _) = resolve_with(&gha, &env).unwrap();
    assert_eq!(request.cache_to[0].attrs()["token"], "t");
    assert_eq!(request.cache_from[0].attrs()["url"], "u");
}

#[test]
fn agents_for_git_by_ssh_come_by_themselves() {
    for (context, count) in [
        ("git@github.com:a/b.git", 1),
        ("ssh://git@h/a.git#main", 1),
        ("https://h/a.git", 0),
        ("me@dir", 0),
        ("./a@b:c", 0),
    ] {
        let (request, _) = resolve_with(&[context], &[]).unwrap();
        assert_eq!(request.ssh.len(), count, "{context}");
    }
}

#[test]
fn policies_and_unsafe_deletes_are_refused() {
    assert!(error(&["--policy=filename=p.rego", "."]).contains("--policy"));
    assert!(error(&["--policy=disabled=false", "."]).contains("--policy"));
    assert!(error(&["--policy=disabled=true,strict=true", "."]).contains("--policy"));
    let policy_off = |args: &[&str], default: &str| {
        let resolved = resolve_with(args, &[("BUILDX_DEFAULT_POLICY", default)]);
        resolved.map(|(request, _)| request.policy_off)
    };
    for off in ["disabled=true", " Disabled=1"] {
        let off = format!("--policy={off}");
        assert!(policy_off(&[&off, "."], "1").unwrap());
    }
    for no_default in ["", "0", "maybe"] {
        assert!(!policy_off(&["."], no_default).unwrap());
    }
    let refused = policy_off(&["."], "true").unwrap_err();
    assert!(refused.message().contains("BUILDX_DEFAULT_POLICY"));
    assert!(refused.hints[0].contains("--policy disabled=true"));
    let delete = "-o=type=local,dest=/usr,mode=delete";
    let dir = tempfile::tempdir().unwrap();
    let mut request = BuildRequest {
        outputs: Output::parse_list(&[&delete[3..]]).unwrap(),
        ..Default::default()
    };
    let env = Env::from_pairs([("A", "")], dir.path());
    assert!(local_deletes(&request, &env).is_err());
    request.allow.local_delete = true;
    assert!(local_deletes(&request, &env).is_ok());
}

#[test]
fn files_are_relative_to_the_working_folder() {
    let (_, files) = resolve_with(&["--iidfile=a/id", "--metadata-file=/m", "."], &[]).unwrap();
    assert_eq!(files.iidfile.unwrap(), PathBuf::from("/home/me/a/id"));
    assert_eq!(files.metadata.unwrap(), PathBuf::from("/m"));
}

#[test]
fn several_caches_of_both_forms() {
    let (request, _) = resolve_with(
        &[
            "--cache-from=r.io/a:1",
            "--cache-from=type=registry,ref=r.io/a:2",
            "--cache-to=inline",
            ".",
        ],
        &[],
    )
    .unwrap();
    assert_eq!(request.cache_from.len(), 2);
    assert_eq!(request.cache_to.len(), 1);
}

#[test]
fn the_folder_git_stays_where_an_argument_says_so() {
    for (value, expected) in [("1", Some(true)), ("false", Some(false)), ("maybe", None)] {
        let arg = format!("--build-arg={KEEP_GIT_DIR_ARG}={value}");
        let (request, _) = resolve_with(&[&arg, "."], &[]).unwrap();
        assert_eq!(request.inputs.keep_git_dir, expected, "{value}");
    }
    let (request, _) = resolve_with(&["."], &[]).unwrap();
    assert_eq!(request.inputs.keep_git_dir, None);
}

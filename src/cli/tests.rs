use super::*;

fn fail(line: &str) -> CommandError {
    let args: Vec<OsString> = line.split(' ').map(Into::into).collect();
    let mut root = command();
    let error = root.try_get_matches_from_mut(&args).unwrap_err();
    assert!(error.use_stderr(), "{line}");
    usage::error(&error, &root, &args)
}

#[test]
fn the_tree_is_sound() {
    command().debug_assert();
}

#[test]
fn usage_errors_have_the_codes_of_buildx() {
    for (line, code, message) in [
        ("version --foo", 125, "unknown flag: --foo"),
        ("--foo version", 125, "unknown flag: --foo"),
        ("-x", 125, "unknown flag: -x"),
        ("foo", 1, "unknown command: \"foo\""),
        ("version x", 1, "unexpected argument \"x\""),
        ("completion", 1, "missing argument: <SHELL>"),
        ("-c", 125, "flag needs an argument: --context"),
        (
            "--tlsverify=maybe version",
            125,
            "invalid value \"maybe\" for --tlsverify: ",
        ),
        (
            "-l loud version",
            1,
            "invalid value \"loud\" for --log-level: it is none of debug, ",
        ),
    ] {
        let error = fail(line);
        assert_eq!(error.kind.exit_code(), code, "{line}: {error}");
        assert!(error.message().starts_with(message), "{line}: {error}");
    }
}

#[test]
fn usage_errors_say_where_the_help_is() {
    let error = fail("-D version --foo");
    assert_eq!(error.hints, ["run \"docker cachex version --help\""]);
    let error = fail("versoin");
    assert_eq!(
        error.hints,
        ["did you mean version?", "run \"docker cachex --help\""]
    );
}

#[test]
fn the_last_of_a_repeated_flag_counts() {
    let matches = command()
        .try_get_matches_from(["-c", "a", "-c", "b", "--debug", "-D", "version"])
        .unwrap();
    assert_eq!(matches.get_one::<String>("global-context").unwrap(), "b");
}

#[test]
fn builder_is_named_by_flag_or_variable() {
    let mut ctx = Context {
        name: Name::default(),
        env: Env::from_pairs([(BUILDX_BUILDER, "from-env")], "/h"),
        ui: Ui::from_process(),
        global: GlobalFlags::default(),
        cancel: CancellationToken::new(),
        hurry: CancellationToken::new(),
        orderly: TaskTracker::new(),
    };
    assert_eq!(ctx.builder_name(None), Some("from-env"));
    ctx.global.builder = Some("flag".to_owned());
    assert_eq!(ctx.builder_name(None), Some("flag"));
    assert_eq!(ctx.builder_name(Some("argument")), Some("argument"));
    ctx.global.builder = Some(String::new());
    assert_eq!(ctx.builder_name(None), None);
}

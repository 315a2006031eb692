//! Each form of what is shown.

use crate::explain::phrase::{self, Length};
use crate::explain::*;

fn one(cause: &Cause) -> String {
    phrase::cause(cause, Length::Short).join("\n")
}

/// Checks the code and the words of causes.
fn assert_words(causes: Vec<(Cause, &str, &str)>) {
    for (cause, code, words) in causes {
        assert_eq!((cause.code(), one(&cause).as_str()), (code, words));
    }
}

#[test]
fn causes_in_the_step_have_their_words() {
    let variable = |is_argument, change, is_named| {
        Cause::Variable(Variable {
            name: "COMMIT_SHA".to_owned(),
            is_argument,
            change,
            is_named,
        })
    };
    assert_words(vec![
        (
            Cause::Asked("--no-cache".to_owned()),
            "asked",
            "--no-cache was given",
        ),
        (Cause::SomeFiles, "files", "files that it reads differ"),
        (
            variable(true, VariableChange::Value, false),
            "arg",
            "build argument COMMIT_SHA has another value; the command does not use it: declare ARG COMMIT_SHA \
             below this step",
        ),
        (
            variable(true, VariableChange::Value, true),
            "arg",
            "build argument COMMIT_SHA has another value",
        ),
        (
            variable(false, VariableChange::New, false),
            "env",
            "environment variable COMMIT_SHA is new",
        ),
        (Cause::Mounts, "mounts", "its mounts differ"),
        (
            Cause::Options(Vec::new()),
            "options",
            "another option of the step differs",
        ),
        (
            Cause::Options(vec!["WORKDIR"]),
            "options",
            "its working directory (WORKDIR) differs",
        ),
        (
            Cause::Options(vec!["USER", "--network"]),
            "options",
            "its user (USER) and network mode (--network) differ",
        ),
        (
            Cause::VariableOrder,
            "env",
            "the same environment variables are set in another order",
        ),
        (
            variable(true, VariableChange::Gone, false),
            "arg",
            "build argument COMMIT_SHA is gone",
        ),
        (
            Cause::Platforms(vec!["linux/arm64".to_owned(), "linux/386".to_owned()]),
            "platform",
            "the cache has this step for linux/arm64 and linux/386 only",
        ),
    ]);
}

#[test]
fn causes_in_the_text_of_a_step_have_their_words() {
    assert_words(vec![
        (Cause::Command, "command", "its command differs"),
        (
            Cause::Instruction,
            "command",
            "its text in the Dockerfile differs",
        ),
        (
            Cause::Heredoc,
            "command",
            "the text of its heredoc differs, or a variable in it",
        ),
        (
            Cause::NotThere,
            "new",
            "not in the cache: the step is new, or was changed",
        ),
        (
            Cause::Context,
            "command",
            "its text is the same, but WORKDIR or a variable in it differs",
        ),
    ]);
}

#[test]
fn causes_outside_the_step_have_their_words() {
    let of = |text: &str| format!("sha256:{}", text.repeat(32)).parse().unwrap();
    assert_words(vec![
        (
            Cause::Base {
                from: Some(of("1f")),
                to: Some(of("9a")),
            },
            "base",
            "base image moved from sha256:1f1f… to sha256:9a9a…",
        ),
        (
            Cause::Source,
            "source",
            "the Git repository, URL or archive that it reads has changed",
        ),
        (Cause::Timestamp, "timestamp", "SOURCE_DATE_EPOCH differs"),
        (
            Cause::NoLayer,
            "no-layer",
            "in the cache without its layer: mode=min keeps only layers of the final image, mode=max keeps all",
        ),
        (
            Cause::LayerLost(of("ab")),
            "layer-lost",
            "in the cache, but the registry has lost its layer sha256:abab…; the next export puts it back",
        ),
        (
            Cause::OtherOrder,
            "new",
            "the cache has this step, but only after other steps than these",
        ),
        (
            Cause::New,
            "new",
            "not in the cache: no earlier build had a step like it",
        ),
        (
            Cause::Unknown("the commit is not known".to_owned()),
            "unknown",
            "not known: the commit is not known",
        ),
    ]);
    let frontend = Cause::Frontend {
        from: "docker/dockerfile:1@sha256:1f1f".to_owned(),
        to: "docker/dockerfile:1@sha256:9a9a".to_owned(),
    };
    assert_eq!(
        one(&frontend),
        "the Dockerfile frontend moved from docker/dockerfile:1@sha256:1f1f to docker/dockerfile:1@sha256:9a9a"
    );
}

fn changed(paths: &[(&str, FileChange)]) -> Files {
    Files {
        total: 214,
        changed: paths.iter().map(|(p, c)| ((*p).to_owned(), *c)).collect(),
        left_out_by: ".dockerignore".to_owned(),
        ..Files::default()
    }
}

#[test]
fn files_that_only_say_what_is_built_are_told_with_the_way_out() {
    let mut lists = changed(&[
        ("docker/Dockerfile", FileChange::Content),
        ("docker/Dockerfile.dockerignore", FileChange::Content),
    ]);
    lists.left_out_by = "docker/Dockerfile.dockerignore".to_owned();
    lists.own = lists.changed.iter().map(|(path, _)| path.clone()).collect();
    let told = one(&Cause::Files(lists.clone()));
    assert!(
        told.ends_with(
            "; docker/Dockerfile and docker/Dockerfile.dockerignore are copied too: list them in \
             docker/Dockerfile.dockerignore"
        ),
        "{told}"
    );
    // What a list leaves out differs with the list.
    lists.own.remove(0);
    lists.changed[0] = ("a".to_owned(), FileChange::Ignored);
    let told = one(&Cause::Files(lists));
    assert!(!told.contains("copied too"), "{told}");
}

#[test]
fn files_are_named_with_what_is_other() {
    let two = [
        ("src/server.ts", FileChange::Content),
        ("src/health.ts", FileChange::New),
    ];
    assert_eq!(
        one(&Cause::Files(changed(&two))),
        "2 of 214 files differ: src/server.ts (content), src/health.ts (new)"
    );
    let mut dockerfile = changed(&[("Dockerfile", FileChange::Content)]);
    dockerfile.own = vec!["Dockerfile".to_owned()];
    assert_eq!(
        one(&Cause::Files(dockerfile.clone())),
        "1 of 214 files differs: Dockerfile (content); it is copied too: list it in .dockerignore"
    );
    dockerfile
        .changed
        .push(("a".to_owned(), FileChange::Removed));
    assert_eq!(
        one(&Cause::Files(dockerfile)),
        "2 of 214 files differ: Dockerfile (content), a (removed); Dockerfile is copied too: list it in \
         .dockerignore"
    );
    let permissions = Files {
        total: 214,
        permissions: Some(Permissions {
            count: 37,
            now: 0o664,
            before: 0o644,
            such_as: "src/a.ts".to_owned(),
            same_in_git: true,
        }),
        ..Files::default()
    };
    let cause = Cause::Files(permissions);
    assert_eq!(
        (one(&cause).as_str(), cause.code()),
        (
            "37 of 214 files differ only in their permissions, such as src/a.ts (0664, was 0644); \
             --context-mode=git ignores that",
            "permissions"
        )
    );
    let Cause::Files(mut with_folders) = cause else {
        unreachable!("made above")
    };
    with_folders.total = 36;
    let told = one(&Cause::Files(with_folders));
    assert!(
        told.starts_with("37 files and folders differ only"),
        "{told}"
    );
    let names: Vec<String> = (0..36).map(|n| format!("f{n}")).collect();
    let many: Vec<_> = names
        .iter()
        .map(|n| (n.as_str(), FileChange::Kind))
        .collect();
    let text = one(&Cause::Files(changed(&many)));
    assert!(
        text.ends_with("f4 (another type of file), and 31 more (--explain=full)"),
        "{text}"
    );
    let full = phrase::cause(&Cause::Files(changed(&many)), Length::Full).join("");
    assert!(full.ends_with("f35 (another type of file)"), "{full}");
}

fn step(name: &str) -> Step {
    Step {
        vertex: 0,
        name: name.to_owned(),
        place: None,
    }
}

#[test]
fn few_followers_are_named_and_many_counted() {
    let steps: Vec<Step> = (1..9).map(|n| step(&format!("[{n}/8] RUN {n}"))).collect();
    let told = |count: usize| phrase::followers(&steps[..count], Length::Short);
    assert_eq!(told(0), None);
    assert_eq!(told(1).unwrap(), "1 step follows from it: [1/8] RUN 1");
    assert!(told(4).unwrap().ends_with("[4/8] RUN 4"));
    assert_eq!(
        told(8).unwrap(),
        "8 steps follow from it: [1/8] RUN 1, [2/8] RUN 2, [3/8] RUN 3, and 5 more"
    );
    let full = phrase::followers(&steps, Length::Full).unwrap();
    assert!(full.ends_with("[8/8] RUN 8"));
}

#[test]
fn a_summary_has_twelve_lines_at_most() {
    let miss = |name: &str| Miss {
        step: step(name),
        cause: Cause::New,
        followers: vec![step("next")],
    };
    let diagnosis = |count: usize| Diagnosis {
        ran: count,
        misses: (0..count).map(|n| miss(&format!("[{n}] RUN"))).collect(),
        ..Diagnosis::default()
    };
    let lines = |count, length| render::lines(&diagnosis(count), &[], length);
    assert_eq!(lines(3, Length::Short).len(), 10);
    let short = lines(9, Length::Short);
    assert!(short.len() <= 12, "{short:?}");
    assert_eq!(
        short.last().unwrap(),
        "  and 6 more causes (--explain=full)"
    );
    assert_eq!(lines(9, Length::Full).len(), 28);
}

#[test]
fn caches_that_could_not_be_read_are_named() {
    let cache = |name: &str, error: Option<&str>| (name.to_owned(), error.map(str::to_owned));
    let repository = "ghcr.io/acme/app/cache";
    let (first, second) = (
        format!("{repository}:pr-12"),
        format!("{repository}:b-main"),
    );
    assert_eq!(render::no_cache(&[]), None);
    assert_eq!(
        render::no_cache(&[cache(&first, None)]).unwrap(),
        format!("no cache could be read: {first} does not exist")
    );
    assert_eq!(
        render::no_cache(&[cache(&first, None), cache(&second, None)]).unwrap(),
        format!("no cache could be read: {first} and :b-main do not exist")
    );
    assert_eq!(
        render::no_cache(&[cache(&first, None), cache("x:y", Some("401 Unauthorized"))]).unwrap(),
        format!("no cache could be read: {first} does not exist; x:y: 401 Unauthorized")
    );
}

#[test]
fn names_cannot_steer_a_terminal() {
    let evil = "a\x1b[2J\x07\u{202e}\nb";
    let files = changed(&[(evil, FileChange::New)]);
    let miss = Miss {
        step: step(evil),
        cause: Cause::Files(files),
        followers: vec![step(evil)],
    };
    let diagnosis = Diagnosis {
        ran: 1,
        misses: vec![miss],
        ..Diagnosis::default()
    };
    for line in render::lines(&diagnosis, &[], Length::Full) {
        assert!(
            !line.contains(['\x1b', '\x07', '\u{202e}', '\n']),
            "{line:?}"
        );
    }
}

//! Keys of steps and sources: what the builder of the tests' machine has computed, and rules.

use bollard_buildkit_proto::pb::{
    CacheOpt, ChownOpt, ExecOp, FileAction, FileActionMkFile, FileOp, MergeInput, MergeOp, Mount,
    Platform, UserOpt, file_action::Action, op, user_opt::User,
};

use super::{PATH, X};
use crate::cache::keys::content;
use crate::cache::keys::testing::*;
use crate::cache::keys::*;

const Y: &str = "Y=ü and 'quotes' \"dq\" \\ back";

/// Returns the keys of the last step of a definition.
fn last_key(kind: op::Op, inputs: &[op::Op]) -> Result<StepKey, Unknown> {
    let mut maker = Maker::default();
    let inputs: Vec<String> = inputs
        .iter()
        .map(|input| maker.add("", input.clone(), &[]))
        .collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let last = maker.add("", kind, &inputs);
    let plan = Plan::of([&maker.end(&last)]);
    let index = plan.index_of(&last).unwrap();
    Keys::of(&plan, &Facts::default()).step(index).cloned()
}

fn only(key: Result<StepKey, Unknown>) -> (String, String) {
    let key = key.unwrap();
    let digest = key.digests.first().unwrap();
    (digest.to_string(), record(digest, 0).to_string())
}

fn exec(kind: op::Op) -> ExecOp {
    match kind {
        op::Op::Exec(exec) => exec,
        _ => unreachable!(),
    }
}

#[test]
fn a_command_has_the_key_of_buildkit() {
    let mut command = exec(run("echo nonet > /out5", &[PATH, X, Y], Vec::new()));
    command.network = 2;
    let key = last_key(op::Op::Exec(command), &[image(BASE)]);
    let rules = key.clone().unwrap().inputs;
    let (key, record) = only(key);
    assert_eq!(
        key,
        "sha256:bbd3ca59c3c84342b48e9e6af2699c1f2e1891595dac454e929efa6f67fd7968"
    );
    assert_eq!(
        record,
        "sha256:84da2d5b88623965df88a49536d01b96f78b31e3c129321020b8c82befa4c880"
    );
    let root = "sha256:8a5edab282632443219e051e4ade2d1d5bbc671c781051bf1437897cbdfea0f1";
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0].selector.as_ref().unwrap().as_str(), root);
    assert_eq!(rules[0].content, None);
}

#[test]
fn a_cache_mount_of_another_name_has_no_name_in_the_key() {
    let mount = |cache: CacheOpt| Mount {
        input: -1,
        dest: "/root/.cache2".to_owned(),
        output: -1,
        mount_type: 3,
        cache_opt: Some(cache),
        ..Mount::default()
    };
    let key = |id: &str, sharing: i32| {
        let cache = CacheOpt {
            id: id.to_owned(),
            sharing,
        };
        let command = run("echo cache2 > /out2b", &[PATH, X, Y], vec![mount(cache)]);
        only(last_key(command, &[image(BASE)])).1
    };
    let golden = "sha256:b91e35ff833cd29baadb10bdc132a5f6bb3253c7723d02f154ea6952ccaeb905";
    assert_eq!(key("other", 2), golden);
    assert_eq!(key("/root/.cache2", 1), golden);
    let default = key("/root/.cache2", 0);
    assert_ne!(default, golden);
    assert_ne!(key("namespace//root/.cache2", 0), golden);
}

#[test]
fn a_file_operation_has_the_key_of_buildkit() {
    let mut c = copying("/sub/c.js", "/own/");
    let user = || UserOpt {
        user: Some(User::ById(1000)),
    };
    c.owner = Some(ChownOpt {
        user: Some(user()),
        group: Some(user()),
    });
    c.mode = 416;
    let key = last_key(copies(c), &[image(BASE), source("local://context")]);
    let rules = key.clone().unwrap().inputs;
    let (key, record) = only(key);
    assert_eq!(
        key,
        "sha256:0dfdd6d599eb9ad2e465553c582af106cf886a3f209bc4145242b95f2f991075"
    );
    assert_eq!(
        record,
        "sha256:b5c2c5f5ff537665f24f5872f61bc81abbbf562bc2267e35a062208c418853b2"
    );
    assert_eq!(rules[0], InputRule::default());
    assert_eq!(rules[1].selector, Some(content::joined(&["/sub/c.js"])));
}

#[test]
fn a_heredoc_has_the_key_of_buildkit() {
    let action = FileAction {
        input: -1,
        secondary_input: -1,
        output: 0,
        action: Some(Action::Mkfile(FileActionMkFile {
            path: "/EOT".to_owned(),
            mode: 420,
            data: b"hello\n".to_vec(),
            timestamp: -1,
            ..FileActionMkFile::default()
        })),
    };
    let file = op::Op::File(FileOp {
        actions: vec![action],
    });
    assert_eq!(
        only(last_key(file, &[])).1,
        "sha256:df943c2ed9c279959d0a23ffccbdfd4a4eb1a2caee9254f845076e166e3a7770"
    );
}

#[test]
fn a_merge_has_the_key_of_buildkit() {
    let inputs = vec![MergeInput { input: 0 }, MergeInput { input: 1 }];
    let merge = op::Op::Merge(MergeOp { inputs });
    assert_eq!(
        only(last_key(merge, &[image(BASE), source("local://a")])).1,
        "sha256:5dbfbafede47210a7bd7363461bc885ec7310febe761daffdf666bfdae5970ff"
    );
}

#[test]
fn an_image_has_the_key_of_buildkit() {
    assert_eq!(
        only(last_key(image(BASE), &[])).1,
        "sha256:3554a85b59a8c5caae3592078c60aee1d165a84bee2ef2fcfe3135942806045f"
    );
}

#[test]
fn an_image_has_a_second_key_by_its_layers() {
    let mut maker = Maker::default();
    let base = maker.add("", image(BASE), &[]);
    let plan = Plan::of([&maker.end(&base)]);
    let mut facts = Facts::default();
    let layers = vec![Digest::of(b"1"), Digest::of(b"2")];
    let place = (BASE.to_owned(), "linux/amd64".to_owned());
    facts.images.insert(place, layers.clone());
    let keys = Keys::of(&plan, &facts);
    let chain = Digest::of(format!("{} {}", layers[0], layers[1]).as_bytes());
    let second = Digest::of(format!("buildkit.source.v0:{chain}").as_bytes());
    assert_eq!(keys.step(0).unwrap().digests[1], second);
}

#[test]
fn selectors_have_the_digests_of_buildkit() {
    assert_eq!(
        content::joined(&["/out"]).as_str(),
        "sha256:a5bcd92e5ab3b071d95f7c842563c82ee88ccfdda4536ae94d6da4e6d4bece5d"
    );
}

fn git_source(url: &str, keep: bool) -> op::Op {
    let op::Op::Source(mut git) = source(url) else {
        unreachable!()
    };
    if keep {
        let name = "git.keepgitdir".to_owned();
        git.attrs.insert(name, "true".to_owned());
    }
    op::Op::Source(git)
}

fn git_key(url: &str, keep: bool, fact: Option<SourceFact>) -> Result<Digest, Unknown> {
    let mut maker = Maker::default();
    let git = maker.add("", git_source(url, keep), &[]);
    let plan = Plan::of([&maker.end(&git)]);
    let mut facts = Facts::default();
    facts.sources.extend(fact.map(|fact| (git, fact)));
    Ok(Keys::of(&plan, &facts).step(0)?.digests[0].clone())
}

#[test]
fn a_repository_is_known_by_its_commit() {
    let of = |key: &str| Digest::of(format!("buildkit.source.v0:{key}").as_bytes());
    let (commit, tag) = ("c".repeat(40), "d".repeat(40));
    let url = "git://example.com/a.git";
    let fixed = format!("{url}#{commit}:sub/../docs/");
    assert_eq!(
        git_key(&fixed, false, None),
        Ok(of(&format!("{commit}:docs")))
    );
    let branch = format!("{url}#main");
    assert_eq!(
        git_key(&branch, false, None),
        Err(Unknown::Source("the commit of a Git repository"))
    );
    let fact = || SourceFact::Git {
        reference: "refs/tags/v1".to_owned(),
        object: tag.clone(),
        commit: Some(commit.clone()),
    };
    assert_eq!(git_key(&branch, false, Some(fact())), Ok(of(&commit)));
    let kept = format!("{tag}.git#refs/tags/v1");
    assert_eq!(git_key(&branch, true, Some(fact())), Ok(of(&kept)));
}

#[test]
fn a_web_address_is_known_by_its_content() {
    let mut maker = Maker::default();
    let op::Op::Source(mut http) = source("https://example.com/a.txt") else {
        unreachable!()
    };
    for (name, value) in [("http.perm", "0600"), ("http.header.accept", "a/b")] {
        http.attrs.insert(name.to_owned(), value.to_owned());
    }
    let file = maker.add("", op::Op::Source(http), &[]);
    let plan = Plan::of([&maker.end(&file)]);
    let mut facts = Facts::default();
    assert!(Keys::of(&plan, &facts).step(0).is_err());
    let fact = SourceFact::Http {
        filename: "a.txt".to_owned(),
        digest: Digest::of(b"a"),
        last_modified: String::new(),
    };
    facts.sources.insert(file, fact);
    let json = format!(
        r#"{{"Filename":"a.txt","Perm":384,"UID":0,"GID":0,"Checksum":"{}","Header":[{{"Name":"Accept","Value":"a/b"}}]}}"#,
        Digest::of(b"a")
    );
    let inner = Digest::of(json.as_bytes());
    let key = Digest::of(format!("buildkit.source.v0:{inner}").as_bytes());
    assert_eq!(Keys::of(&plan, &facts).step(0).unwrap().digests, [key]);
}

#[test]
fn platforms_are_normalized() {
    let key = |architecture: &str, variant: &str| {
        let mut maker = Maker::default();
        let platform = Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            ..Platform::default()
        };
        let base = maker.add_op("", Some(image(BASE)), &[], platform);
        let plan = Plan::of([&maker.end(&base)]);
        Keys::of(&plan, &Facts::default()).step(0).cloned()
    };
    assert_eq!(key("arm64", "v8"), key("arm64", ""));
    assert_eq!(key("x86_64", ""), key("amd64", ""));
    assert_ne!(key("arm", "v6"), key("arm", "v7"));
}

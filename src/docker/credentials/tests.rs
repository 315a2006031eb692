use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::docker::config::CONFIG_FILE_NAME;

fn config(text: &str) -> ConfigFile {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join(CONFIG_FILE_NAME), text).unwrap();
    ConfigFile::load(dir.path()).unwrap()
}

fn auth(user: &str, password: &str) -> String {
    STANDARD.encode(format!("{user}:{password}"))
}

fn basic(user: &str, password: &str) -> Credential {
    Credential::Basic {
        username: user.to_owned(),
        password: Secret::new(password),
    }
}

async fn get(store: &CredentialStore, host: &str) -> Result<Credential, CredentialError> {
    store.get(host, &[]).await
}

/// A folder with credential helpers that are shell scripts.
struct Helpers(tempfile::TempDir);

impl Helpers {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn add(self, name: &str, script: &str) -> Self {
        let path = self.0.path().join(format!("docker-credential-{name}"));
        fs_err::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn store(&self, text: &str) -> CredentialStore {
        let path = format!("{}:/usr/bin:/bin", self.0.path().display());
        CredentialStore::new(
            config(text),
            &Env::from_pairs([("PATH", path.as_str())], "/h"),
        )
    }

    fn log(&self) -> String {
        fs_err::read_to_string(self.0.path().join("log")).unwrap_or_default()
    }
}

#[tokio::test]
async fn auths_in_every_form() {
    let text = format!(
        r#"{{"auths":{{
            "plain.example":{{"auth":"{0}"}},
            "https://url.example/v2/":{{"auth":"{0}"}},
            "port.example:5000":{{"username":"u","password":"p"}},
            "https://index.docker.io/v1/":{{"auth":"{1}"}},
            "acr.example":{{"auth":"{0}","identitytoken":"id"}},
            "tok.example":{{"registrytoken":"rt"}},
            "empty.example":{{}}
        }}}}"#,
        auth("u", "p:with:colons"),
        auth("hub", "h"),
    );
    let store = CredentialStore::new(config(&text), &Env::default());
    let colons = basic("u", "p:with:colons");
    for (host, want) in [
        ("plain.example", colons.clone()),
        ("url.example", colons),
        ("port.example:5000", basic("u", "p")),
        ("port.example", Credential::Anonymous),
        ("docker.io", basic("hub", "h")),
        ("registry-1.docker.io", basic("hub", "h")),
        ("dhi.io", basic("hub", "h")),
        ("acr.example", Credential::IdentityToken(Secret::new("id"))),
        ("tok.example", Credential::RegistryToken(Secret::new("rt"))),
        ("empty.example", Credential::Anonymous),
        ("unknown.example", Credential::Anonymous),
    ] {
        assert_eq!(get(&store, host).await.unwrap(), want, "{host}");
    }
}

#[tokio::test]
async fn broken_auth_is_named_without_its_value() {
    for broken in ["%%%", "bm9jb2xvbg==", "OnBhc3M="] {
        let text = format!(r#"{{"auths":{{"r.example":{{"auth":"{broken}"}}}}}}"#);
        let store = CredentialStore::new(config(&text), &Env::default());
        let error = get(&store, "r.example").await.unwrap_err();
        let message = crate::error::chain(&error);
        assert!(
            message.contains("r.example") && message.contains(CONFIG_FILE_NAME),
            "{message}"
        );
        assert!(!message.contains(broken), "{message}");
        assert!(error.hint().contains("docker login r.example"));
    }
}

#[tokio::test]
async fn variable_wins_over_everything() {
    let text = format!(
        r#"{{"auths":{{"r.example":{{"auth":"{}"}}}}}}"#,
        auth("env", "e")
    );
    let env = Env::from_pairs([(DOCKER_AUTH_CONFIG, text.as_str())], "/h");
    let file = format!(
        r#"{{"auths":{{"r.example":{{"auth":"{0}"}},"other.example":{{"auth":"{0}"}}}},
            "credHelpers":{{"r.example":"missing"}}}}"#,
        auth("file", "f")
    );
    let store = CredentialStore::new(config(&file), &env);
    assert!(store.warnings().is_empty());
    assert_eq!(get(&store, "r.example").await.unwrap(), basic("env", "e"));
    assert_eq!(
        get(&store, "other.example").await.unwrap(),
        basic("file", "f")
    );
}

#[tokio::test]
async fn broken_variable_is_a_warning_without_its_value() {
    for broken in [
        r#"{"auths":{"r.example":{"auth":"c2VjcmV0"}}}"#,
        r#"{"auths":{"r.example":{}}}"#,
        r#"{"auths":{"r.example":{"auth":"dTpw","email":"c2VjcmV0"}}}"#,
        r#"{"extra":"c2VjcmV0"}"#,
        "c2VjcmV0",
    ] {
        let env = Env::from_pairs([(DOCKER_AUTH_CONFIG, broken)], "/h");
        let store = CredentialStore::new(ConfigFile::default(), &env);
        let [warning] = store.warnings() else {
            panic!("{broken}: {:?}", store.warnings())
        };
        assert!(
            warning.starts_with("DOCKER_AUTH_CONFIG is ignored: "),
            "{warning}"
        );
        assert!(!warning.contains("c2VjcmV0"), "{warning}");
        assert_eq!(
            get(&store, "r.example").await.unwrap(),
            Credential::Anonymous
        );
    }
}

#[tokio::test]
async fn helpers_are_asked_by_host() {
    let helpers = Helpers::new()
        .add(
            "store",
            r#"read -r host; echo "$1 $host" >> "$(dirname "$0")/log"
            echo "{\"ServerURL\":\"$host\",\"Username\":\"u\",\"Secret\":\"of $host\"}""#,
        )
        .add(
            "token",
            r#"cat >/dev/null; echo '{"Username":"<token>","Secret":"t"}'"#,
        )
        .add(
            "none",
            "echo 'credentials not found in native keychain'; exit 1",
        );
    let store = helpers.store(&format!(
        r#"{{"credsStore":"store","credHelpers":{{"tok.example":"token","none.example":"none","file.example":""}},
            "auths":{{"none.example":{{"auth":"{0}"}},"file.example":{{"auth":"{0}"}}}}}}"#,
        auth("file", "f")
    ));
    for (host, want) in [
        ("r.example", basic("u", "of r.example")),
        ("r.example", basic("u", "of r.example")),
        ("docker.io", basic("u", "of https://index.docker.io/v1/")),
        ("tok.example", Credential::IdentityToken(Secret::new("t"))),
        ("none.example", Credential::Anonymous),
        ("file.example", basic("file", "f")),
    ] {
        assert_eq!(get(&store, host).await.unwrap(), want, "{host}");
    }
    assert_eq!(
        helpers.log(),
        "get r.example\nget https://index.docker.io/v1/\n",
        "the second question for one host is answered from memory"
    );
}

#[tokio::test]
async fn a_refused_credential_is_asked_for_again() {
    let helpers = Helpers::new().add(
        "count",
        r#"read -r host; log="$(dirname "$0")/log"; echo "$host" >> "$log"
        echo "{\"Username\":\"u\",\"Secret\":\"$(grep -c . "$log")\"}""#,
    );
    let store = helpers.store(r#"{"credsStore":"count"}"#);
    for _ in 0..2 {
        assert_eq!(get(&store, "r.example").await.unwrap(), basic("u", "1"));
        store.forget(&basic("u", "another")).await;
    }
    store.forget(&basic("u", "1")).await;
    assert_eq!(get(&store, "r.example").await.unwrap(), basic("u", "2"));
}

#[tokio::test]
async fn failing_helpers_are_explained() {
    let helpers = Helpers::new()
        .add("locked", "echo 'the keychain is locked' >&2; exit 3")
        .add("noise", "echo hello")
        .add("chatty", "echo '{\"Secret\":\"hunter2\"}'; exit 1");
    let store = helpers.store(
        r#"{"credHelpers":{"a":"locked","b":"noise","c":"missing","d":"../evil","e":"x y","f":"chatty"}}"#,
    );
    for (host, want) in [
        (
            "a",
            "cannot get the credentials for a: the credential helper docker-credential-locked failed: the keychain is locked",
        ),
        (
            "b",
            "cannot get the credentials for b: the credential helper docker-credential-noise gave an answer that cannot be understood",
        ),
        (
            "c",
            "cannot get the credentials for c: the credential helper docker-credential-missing is not installed",
        ),
        (
            "d",
            "cannot get the credentials for d: \"../evil\" is not the name of a credential helper",
        ),
        (
            "e",
            "cannot get the credentials for e: \"x y\" is not the name of a credential helper",
        ),
        (
            "f",
            "cannot get the credentials for f: the credential helper docker-credential-chatty failed: it says nothing on standard error",
        ),
    ] {
        let error = get(&store, host).await.unwrap_err();
        assert_eq!(crate::error::chain(&error), want);
        assert!(!error.hint().is_empty());
    }
}

#[tokio::test]
async fn dropped_question_ends_the_helper() {
    let helpers = Helpers::new().add(
        "slow",
        r#"echo $$ > "$(dirname "$0")/log"; exec sleep 1000"#,
    );
    let store = helpers.store(r#"{"credsStore":"slow"}"#);
    let asked = tokio::time::timeout(Duration::from_millis(500), get(&store, "r")).await;
    assert!(asked.is_err(), "the helper does not answer");
    let pid = helpers.log();
    let process = format!("/proc/{}/stat", pid.trim());
    for _ in 0..100 {
        // Gone, or dead and not yet reaped.
        let stat = fs_err::read_to_string(&process).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the helper still runs");
}

#[tokio::test]
async fn scoped_configuration_is_used_for_its_repository() {
    let dir = tempfile::tempdir().unwrap();
    let scoped = dir.path().join("config/r.example/team/app");
    fs_err::create_dir_all(&scoped).unwrap();
    let text = |user| {
        format!(
            r#"{{"auths":{{"r.example":{{"auth":"{}"}}}}}}"#,
            auth(user, "x")
        )
    };
    fs_err::write(scoped.join(CONFIG_FILE_NAME), text("scoped")).unwrap();
    let store = CredentialStore::new(config(&text("plain")), &Env::default())
        .with_scoped(dir.path())
        .unwrap();
    for (scope, user) in [
        ("repository:team/app:pull,push", "scoped"),
        ("repository:team/other:pull", "plain"),
    ] {
        let found = store.get("r.example", &[scope.to_owned()]).await.unwrap();
        assert_eq!(found, basic(user, "x"), "{scope}");
    }
}

#[tokio::test]
async fn base64_has_line_breaks_in_the_file_and_the_variable() {
    let broken = auth("user", "a long password").replace('l', "l\\n");
    let text = format!(r#"{{"Auths":{{"r.example":{{"AUTH":"{broken}\r\n"}}}}}}"#);
    let expected = basic("user", "a long password");
    let store = CredentialStore::new(config(&text), &Env::default());
    assert_eq!(get(&store, "r.example").await.unwrap(), expected);
    let env = Env::from_pairs([(DOCKER_AUTH_CONFIG, text.as_str())], "/h");
    let store = CredentialStore::new(ConfigFile::default(), &env);
    assert_eq!(store.warnings(), [""; 0]);
    assert_eq!(get(&store, "r.example").await.unwrap(), expected);
}

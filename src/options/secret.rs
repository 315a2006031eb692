//! `--secret`: values that build steps may read.

use std::fmt;
use std::path::PathBuf;

use super::csv::{KeyValues, Writer};
use super::error::OptionError;

const KEYS: [&str; 5] = ["id", "src", "source", "env", "type"];

/// Where the value of a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The environment variable of the secret's ID where it is set, else the file of that name.
    Auto,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// One secret: its name in the build and where its value comes from. The value is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// The name by which a build step asks for it; not empty.
    pub id: String,
    /// Where its value comes from.
    pub source: SecretSource,
}

impl Secret {
    /// Parses `id=ID[,src=FILE][,env=NAME][,type=file|env]`. With `type=env`, `src` names a variable.
    pub fn parse(value: &str) -> Result<Self, OptionError> {
        let mut pairs = KeyValues::parse(value)?;
        let is_env = pairs.take_word("type", &[("file", false), ("env", true)])?;
        let id = pairs.take_required("id")?;
        let env = pairs.take("env").filter(|name| !name.is_empty());
        // Two spellings of one key; the one that is written last counts, as in buildx.
        let file = pairs
            .take_either("src", "source")
            .filter(|path| !path.is_empty());
        let error = |text: &str| Err(OptionError::other(text).within(value));
        let source = match (env, file, is_env) {
            (Some(_), Some(_), _) => return error("src and env cannot be used together"),
            (Some(_), None, Some(false)) => return error("env cannot be used with type=file"),
            (Some(env), None, _) => SecretSource::Env(env),
            (None, Some(name), Some(true)) => SecretSource::Env(name),
            (None, Some(path), _) => SecretSource::File(PathBuf::from(path)),
            (None, None, None) => SecretSource::Auto,
            (None, None, Some(true)) => SecretSource::Env(id.clone()),
            (None, None, Some(false)) => SecretSource::File(PathBuf::from(&id)),
        };
        pairs.finish(&KEYS)?;
        Ok(Self { id, source })
    }

    /// Parses the values of all `--secret` flags; empty ones are skipped.
    pub fn parse_list<S: AsRef<str>>(values: &[S]) -> Result<Vec<Self>, OptionError> {
        values
            .iter()
            .map(AsRef::as_ref)
            .filter(|value| !value.is_empty())
            .map(Self::parse)
            .collect()
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writer = Writer::new();
        writer.pair("id", &self.id);
        match &self.source {
            SecretSource::Auto => {}
            SecretSource::File(path) => writer.pair("src", &path.to_string_lossy()),
            SecretSource::Env(name) => writer.pair("env", name),
        }
        f.write_str(&writer.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> SecretSource {
        SecretSource::File(PathBuf::from(path))
    }

    #[test]
    fn sources() {
        let env = |name: &str| SecretSource::Env(name.to_owned());
        for (value, source, display) in [
            ("id=a", SecretSource::Auto, "id=a"),
            ("id=a,src=/f", file("/f"), "id=a,src=/f"),
            ("id=a,source=/f", file("/f"), "id=a,src=/f"),
            ("id=a,source=/f,src=/g", file("/g"), "id=a,src=/g"),
            ("id=a,src=/f,source=/g", file("/g"), "id=a,src=/g"),
            ("type=file,id=a,src=/f", file("/f"), "id=a,src=/f"),
            ("ID=a,SRC=/f", file("/f"), "id=a,src=/f"),
            ("id=a,env=TOKEN", env("TOKEN"), "id=a,env=TOKEN"),
            ("id=a,type=env,src=TOKEN", env("TOKEN"), "id=a,env=TOKEN"),
            ("id=a,type=env", env("a"), "id=a,env=a"),
            ("id=a,type=file", file("a"), "id=a,src=a"),
            (r#"id=a,"src=/x,y""#, file("/x,y"), r#"id=a,"src=/x,y""#),
        ] {
            let secret = Secret::parse(value).unwrap();
            assert_eq!(
                (secret.id.as_str(), &secret.source),
                ("a", &source),
                "{value}"
            );
            assert_eq!(secret.to_string(), display, "{value}");
            assert_eq!(Secret::parse(display).unwrap(), secret, "{display}");
        }
    }

    #[test]
    fn errors() {
        for (value, text) in [
            ("src=/f", r#"key "id" is required in "src=/f""#),
            ("id=,src=/f", r#"key "id" is required in "id=,src=/f""#),
            ("id", r#""id" is not of the form key=value"#),
            (
                "id=a,scr=/f",
                r#"unknown key "scr" in "id=a,scr=/f", did you mean "src"?"#,
            ),
            (
                "id=a,type=fil",
                r#"invalid value "fil" for "type", expected file or env in "id=a,type=fil", did you mean "file"?"#,
            ),
            (
                "id=a,src=/f,env=B",
                r#"src and env cannot be used together in "id=a,src=/f,env=B""#,
            ),
            (
                "id=a,type=file,env=B",
                r#"env cannot be used with type=file in "id=a,type=file,env=B""#,
            ),
        ] {
            assert_eq!(
                Secret::parse(value).unwrap_err().to_string(),
                text,
                "{value}"
            );
        }
    }

    #[test]
    fn empty_flags_are_skipped() {
        assert_eq!(Secret::parse_list(&["", "id=a"]).unwrap().len(), 1);
    }
}

//! The flag that names the builder.

use crate::env::{BUILDX_BUILDER, Env};

/// The flag that names the builder.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct BuilderFlag {
    /// Override the configured builder instance
    #[arg(long, value_name = "string")]
    pub builder: Option<String>,
}

impl BuilderFlag {
    /// Returns the builder that the user named: by argument, flag or `BUILDX_BUILDER`.
    pub fn name<'a>(&'a self, argument: Option<&'a str>, env: &'a Env) -> Option<&'a str> {
        argument
            .or(self.builder.as_deref())
            .or(env.get(BUILDX_BUILDER))
            .filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argument_wins_over_flag_and_variable() {
        let env = Env::from_pairs([(BUILDX_BUILDER, "var")], "/");
        let none = BuilderFlag::default();
        let flag = BuilderFlag {
            builder: Some("flag".to_owned()),
        };
        assert_eq!(flag.name(Some("arg"), &env), Some("arg"));
        assert_eq!(flag.name(None, &env), Some("flag"));
        assert_eq!(none.name(None, &env), Some("var"));
        assert_eq!(none.name(None, &Env::default()), None);
        // An empty flag hides the variable, as in buildx.
        let empty = BuilderFlag {
            builder: Some(String::new()),
        };
        assert_eq!(empty.name(None, &env), None);
    }
}

//! Scopes of tokens: which actions on which repositories (Docker registry token authentication).

use std::collections::{BTreeMap, BTreeSet};

/// What a client does in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// Reads only.
    Pull,
    /// Reads and writes.
    Push,
    /// Reads, writes and deletes.
    Delete,
}

impl Access {
    fn actions(self) -> &'static [&'static str] {
        match self {
            Self::Pull => &["pull"],
            Self::Push => &["pull", "push"],
            Self::Delete => &["delete", "pull", "push"],
        }
    }
}

/// A set of scopes in a fixed order, so that equal needs share one token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    /// Returns the scope of a repository.
    pub(crate) fn repository(name: &str, access: Access) -> Self {
        let actions = access.actions().iter().map(|&a| a.to_owned()).collect();
        Self(BTreeMap::from([(format!("repository:{name}"), actions)]))
    }

    /// Reads scopes as they are written in a challenge.
    pub(crate) fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut scopes = Self::default();
        for text in texts {
            // A repository name may hold a colon (a mirrored host with a port): the last one counts.
            let (resource, actions) = text.rsplit_once(':').unwrap_or((text, ""));
            let entry = scopes.0.entry(resource.to_owned()).or_default();
            entry.extend(
                actions
                    .split(',')
                    .filter(|a| !a.is_empty())
                    .map(str::to_owned),
            );
        }
        scopes
    }

    /// Adds the scopes of another set.
    #[must_use]
    pub(crate) fn and(mut self, other: &Self) -> Self {
        for (resource, actions) in &other.0 {
            self.0
                .entry(resource.clone())
                .or_default()
                .extend(actions.iter().cloned());
        }
        self
    }

    /// Returns the scopes as they are written, one per resource.
    pub(crate) fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(resource, actions)| {
            let actions: Vec<_> = actions.iter().map(String::as_str).collect();
            if actions.is_empty() {
                resource.clone()
            } else {
                format!("{resource}:{}", actions.join(","))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_merged_by_resource() {
        let own = Scopes::repository("a/b", Access::Pull);
        let asked = Scopes::parse([
            "repository:a/b:push,pull",
            "repository:h:5000/c:pull",
            "odd",
        ]);
        let texts: Vec<_> = own.and(&asked).texts().collect();
        assert_eq!(
            texts,
            [
                "odd",
                "repository:a/b:pull,push",
                "repository:h:5000/c:pull"
            ]
        );
    }
}

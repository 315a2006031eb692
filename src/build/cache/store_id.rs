//! Names of the content stores through which BuildKit writes and reads caches of this program.

/// Names a store of the session that BuildKit's exporter and importer of `type=local` caches use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreId(String);

impl StoreId {
    /// Creates a name that no other store has.
    pub fn random() -> Self {
        Self(crate::buildkit::new_id())
    }

    /// Returns the name of the store that reads a folder as the user wrote it.
    pub fn of_folder(folder: &str) -> Self {
        Self(folder.to_owned())
    }

    /// Returns the value of BuildKit's attribute `dest` or `src`.
    pub fn attr(&self) -> String {
        self.0.clone()
    }

    /// Returns the identifier that BuildKit asks the session for: the store of a `type=local` cache has this prefix
    /// (BuildKit `cache/remotecache/local`).
    pub fn in_session(&self) -> String {
        format!("local:{}", self.0)
    }
}

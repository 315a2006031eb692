//! When a result was made, and when a build last used it.
//!
//! BuildKit knows the first alone (`createdAt`). The second is kept beside it in a field that BuildKit
//! passes over, as Go's JSON reader does with every field that it does not know (`lastUsed`).

use jiff::{SignedDuration, Timestamp};

/// Uses that follow the making this closely are not written down: the field costs space.
pub(super) const NEAR: SignedDuration = SignedDuration::from_mins(5);

/// The two times of a result. An unreadable time is the oldest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Times {
    created: Option<Timestamp>,
    /// The first time as it was written.
    created_text: String,
    used: Option<Timestamp>,
}

impl Times {
    /// Reads the times of a result.
    pub(super) fn of(created_at: &str, last_used: &str) -> Self {
        Self {
            created: created_at.parse().ok(),
            created_text: created_at.to_owned(),
            used: last_used.parse().ok(),
        }
    }

    /// Returns both as they are written; the second is empty if it says no more than the first.
    pub(super) fn write(self) -> (String, String) {
        let used = self.used.filter(|used| {
            self.created
                .is_none_or(|made| used.duration_since(made) > NEAR)
        });
        let used = used.map(|used| used.to_string());
        (self.created_text, used.unwrap_or_default())
    }

    /// Takes the later ones of two writers.
    pub(super) fn merge(&mut self, other: Self) {
        if (other.created, &other.created_text) > (self.created, &self.created_text) {
            self.created = other.created;
            self.created_text = other.created_text;
        }
        self.used = self.used.max(other.used);
    }

    /// Notes a use, to the second.
    pub(super) fn touch(&mut self, now: Timestamp) {
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        self.used = self.used.max(Some(now));
    }

    /// Returns the last use; making it is one.
    pub(super) fn used(&self) -> Option<Timestamp> {
        self.used.max(self.created)
    }

    /// Returns what results of one record are ordered by: the younger and the later used is greater.
    pub(super) fn order(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        (self.created, self.used())
    }
}

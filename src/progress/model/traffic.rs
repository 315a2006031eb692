//! What caches cost on the network.

/// Bytes of caches and of their cache mounts that went between a registry and this build, as far as they are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent.
    pub sent: Option<u64>,
    /// Bytes received.
    pub received: Option<u64>,
    /// Bytes sent of cache mounts.
    pub mounts_sent: Option<u64>,
    /// Bytes received of cache mounts.
    pub mounts_received: Option<u64>,
}

impl Traffic {
    pub(super) fn add(&mut self, more: Self) {
        let sum = |old: Option<u64>, new: Option<u64>| match (old, new) {
            (Some(old), Some(new)) => Some(old.saturating_add(new)),
            (old, new) => old.or(new),
        };
        self.sent = sum(self.sent, more.sent);
        self.received = sum(self.received, more.received);
        self.mounts_sent = sum(self.mounts_sent, more.mounts_sent);
        self.mounts_received = sum(self.mounts_received, more.mounts_received);
    }
}

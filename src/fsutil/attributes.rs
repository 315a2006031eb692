//! How the entries of a tree are told: whose they are, and with which permissions.

use super::wire::{self, Stat};

/// Permissions of folders and of files that may be run, and of other files, where only that counts.
const RUNS: u32 = 0o755;
const READS: u32 = 0o644;
/// The bit that git looks at (git `read-cache.c`, `create_ce_mode`).
const OWNER_RUNS: u32 = 0o100;

/// How the entries of a tree are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Attributes {
    /// As they are.
    AsTheyAre,
    /// As owned by root.
    #[default]
    OfRoot,
    /// As owned by root, and of the permissions only what git keeps: whether the owner may run a file. So the same commit is the
    /// same on every machine, whatever its umask.
    OfGit,
}

impl Attributes {
    /// Changes an entry.
    pub(super) fn put_on(self, stat: &mut Stat) {
        if self == Self::AsTheyAre {
            return;
        }
        (stat.uid, stat.gid) = (0, 0);
        if self == Self::OfGit {
            stat.mode = as_in_git(stat.mode);
        }
    }
}

/// Returns the mode of an entry with the permissions that it has in a fresh checkout with git under the usual umask. Links
/// have none of their own, and git keeps no devices.
fn as_in_git(mode: u32) -> u32 {
    let special = wire::MODE_SETUID | wire::MODE_SETGID | wire::MODE_STICKY;
    let kind = mode & !(wire::MODE_PERM | special);
    match kind {
        wire::MODE_DIR => kind | RUNS,
        0 if mode & OWNER_RUNS != 0 => RUNS,
        0 => READS,
        _ => mode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_permissions_git_keeps_one_bit() {
        for (mode, expected) in [
            (0o664, 0o644),
            (0o600, 0o644),
            (0o000, 0o644),
            (0o775, 0o755),
            (0o700, 0o755),
            (0o655, 0o644),
            (wire::MODE_SETUID | 0o755, 0o755),
            (
                wire::MODE_DIR | wire::MODE_SETGID | 0o775,
                wire::MODE_DIR | 0o755,
            ),
            (
                wire::MODE_DIR | wire::MODE_STICKY | 0o777,
                wire::MODE_DIR | 0o755,
            ),
            (wire::MODE_SYMLINK | 0o777, wire::MODE_SYMLINK | 0o777),
            (wire::MODE_FIFO | 0o600, wire::MODE_FIFO | 0o600),
        ] {
            let mut stat = Stat {
                mode,
                uid: 1000,
                gid: 1000,
                ..Stat::default()
            };
            Attributes::OfGit.put_on(&mut stat);
            assert_eq!(
                (stat.mode, stat.uid, stat.gid),
                (expected, 0, 0),
                "{mode:o}"
            );
            stat.mode = mode;
            Attributes::OfRoot.put_on(&mut stat);
            assert_eq!(stat.mode, mode);
        }
    }

    #[test]
    fn entries_may_stay_as_they_are() {
        let stat = Stat {
            mode: 0o664,
            uid: 7,
            gid: 8,
            ..Stat::default()
        };
        let mut told = stat.clone();
        Attributes::AsTheyAre.put_on(&mut told);
        assert_eq!(told, stat);
    }
}

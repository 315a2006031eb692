//! How the files differ that a step reads: those that a record lists, and those of now.

use std::collections::BTreeMap;

use super::{FileChange, Files, OwnFiles, Permissions};
use crate::cache::keys::tree::Entry;
use crate::cache::keys::{Tree, content};
use crate::cache::record::files::{self, File, FileSet};
use crate::fsutil::Matcher;
use crate::fsutil::wire::{MODE_PERM, MODE_TYPE};

/// How the files differ that a step reads of one context.
pub(super) struct Difference {
    total: usize,
    changed: Vec<(String, FileChange)>,
    /// Those of which only the permissions differ: the path, and the bits now and before.
    permissions: Vec<(String, u32, u32)>,
}

impl Difference {
    /// Compares a list with a tree; `None` where the list cannot be read.
    pub(super) fn of(set: &FileSet, new: &Tree, selectors: &[content::Selector]) -> Option<Self> {
        let old: BTreeMap<String, File> = set
            .expand()?
            .into_iter()
            .map(|file| (file.path.clone(), file))
            .collect();
        let old_tree = set.tree(old.values());
        let read_now = content::selected(new, selectors);
        let read_before = content::selected(&old_tree, selectors);
        let mut difference = Self {
            total: read_now.len(),
            changed: Vec::new(),
            permissions: Vec::new(),
        };
        for path in read_now.union(&read_before) {
            let now = read_now.contains(path).then(|| new.entry(path)).flatten();
            let path = String::from_utf8_lossy(path).into_owned();
            let before = old.get(&path);
            difference.compare(path, now.as_ref(), before, set);
        }
        if set.folders.is_some() {
            difference.compare_folders(new, &old_tree, selectors);
        }
        Some(difference)
    }

    /// Compares folders: those that are empty count as files.
    fn compare_folders(&mut self, new: &Tree, old: &Tree, selectors: &[content::Selector]) {
        let read_now = content::folders(new, selectors);
        let read_before = content::folders(old, selectors);
        for path in read_now.union(&read_before) {
            let now = read_now.contains(path).then(|| new.folder(path)).flatten();
            let before = read_before.contains(path).then(|| old.folder(path));
            self.total += usize::from(now.as_ref().is_some_and(|now| now.is_empty));
            let path = String::from_utf8_lossy(path).into_owned();
            match (now, before.flatten()) {
                // What is in it is told.
                (Some(now), None) if now.is_empty => self.changed.push((path, FileChange::New)),
                (None, Some(before)) if before.is_empty => {
                    self.changed.push((path, FileChange::Removed));
                }
                (Some(now), Some(before)) => self.compare_modes(path, now.mode, before.mode),
                _ => {}
            }
        }
    }

    fn compare_modes(&mut self, path: String, now: u32, before: u32) {
        if (now ^ before) & !MODE_TYPE != 0 {
            let bits = |mode: u32| mode & MODE_PERM;
            self.permissions.push((path, bits(now), bits(before)));
        }
    }

    fn compare(&mut self, path: String, now: Option<&Entry>, before: Option<&File>, set: &FileSet) {
        let change = match (now, before) {
            (Some(_), None) => FileChange::New,
            (None, Some(_)) => FileChange::Removed,
            (Some(now), Some(before)) if (now.mode ^ before.mode) & MODE_TYPE != 0 => {
                FileChange::Kind
            }
            (Some(now), Some(before)) => {
                let content = files::content(&set.salt, now);
                let size = u64::try_from(now.size).unwrap_or_default();
                let is_other = match (content, before.content) {
                    (Some(now), Some(before)) => now != before,
                    // What was not read is only told by its size.
                    _ => size != before.size,
                };
                if is_other {
                    FileChange::Content
                } else {
                    if !before.is_link() {
                        self.compare_modes(path, now.mode, before.mode);
                    }
                    return;
                }
            }
            (None, None) => return,
        };
        self.changed.push((path, change));
    }

    /// Tells the files that are not sent any more from those that are gone.
    pub(super) fn mark_ignored(&mut self, excluded: &[String]) {
        let Ok(matcher) = Matcher::new(excluded) else {
            return;
        };
        for (path, change) in &mut self.changed {
            let is_ignored = || matcher.matches(path.trim_end_matches('/')).unwrap_or(false);
            if *change == FileChange::Removed && is_ignored() {
                *change = FileChange::Ignored;
            }
        }
    }

    /// Returns those of the build's own files whose content differs.
    pub(super) fn changed_of(&self, own: &OwnFiles) -> Vec<String> {
        let differs = |path: &&String| {
            let mut changed = self.changed.iter();
            changed.any(|(other, change)| other == *path && *change == FileChange::Content)
        };
        own.paths().filter(differs).cloned().collect()
    }

    pub(super) fn add_to(self, all: &mut Files) {
        all.total += self.total;
        all.changed.extend(self.changed);
        let count = self.permissions.len();
        // Git keeps whether the owner may run it, and nothing else.
        let in_git = |(_, now, before): &(String, u32, u32)| (now ^ before) & 0o100 == 0;
        let same_in_git = self.permissions.iter().all(in_git);
        if let (Some((such_as, now, before)), None) =
            (self.permissions.into_iter().next(), &all.permissions)
        {
            all.permissions = Some(Permissions {
                count,
                now,
                before,
                such_as,
                same_in_git,
            });
        }
    }
}

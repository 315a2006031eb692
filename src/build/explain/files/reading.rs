//! The files of local sources listed, and the checksums of those that steps read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::filters::filters;
use super::{Limits, PIECE, Sums, Trees};
use crate::build::context::inputs::Folders;
use crate::cache::keys::header::{FileHash, Sum};
use crate::cache::keys::tree::Builder;
use crate::cache::keys::{Facts, Keys, Plan, Tree};
use crate::fsutil::wire::Stat;
use crate::fsutil::{Attributes, Filter, TreeError, list};
use crate::platform::names;

/// Lists the local sources of a plan, and adds the checksums of the files that these steps read to those that are
/// known. Blocks.
pub(super) fn read(
    plan: &Plan,
    folders: &Folders,
    steps: &BTreeSet<usize>,
    limits: Limits,
    sums: &mut Sums,
    stop: &AtomicBool,
) -> Result<Trees, TreeError> {
    let mut trees = Trees::new();
    let mut links = BTreeMap::new();
    let filters = filters(plan);
    for (name, filter) in &filters {
        if let Some(folder) = folders.by_name.get(name) {
            let links: &mut BTreeMap<_, _> = links.entry(name.clone()).or_default();
            let tree = plain_tree(folder, filter, folders.attributes, links)?;
            trees.insert(name.clone(), Arc::new(tree));
        }
    }
    let by_name: BTreeMap<String, &Tree> = trees.iter().map(|(n, t)| (n.clone(), &**t)).collect();
    let keys = Keys::of(plan, &Facts::default());
    let wanted = keys.files_read(plan, &by_name, |at| steps.contains(&at));
    if wanted.values().map(BTreeSet::len).sum::<usize>() > limits.files {
        return Ok(trees);
    }
    // Two trees of one folder would take twice the memory.
    drop(by_name);
    trees.retain(|name, _| !wanted.contains_key(name));
    let mut left = limits.bytes;
    for (name, mut paths) in wanted {
        let (Some(folder), Some(filter)) = (folders.by_name.get(&name), filters.get(&name)) else {
            continue;
        };
        // The checksum of a second name is that of the first.
        let firsts = links.get(&name).into_iter().flatten();
        let firsts = firsts.filter(|(second, _)| paths.contains(*second));
        let firsts: Vec<Vec<u8>> = firsts.map(|(_, first)| first.clone()).collect();
        paths.extend(firsts);
        let sums = sums.entry(name.clone()).or_default();
        let mut hasher = Hasher {
            root: folder,
            sums,
            left: &mut left,
            stop,
        };
        let mut builder = Builder::default();
        list(folder, filter, folders.attributes, |stat| {
            let sum = paths.contains(&stat.path).then(|| hasher.sum(&stat));
            builder.add(&stat, sum.flatten());
            ControlFlow::Continue(())
        })?;
        trees.insert(name, Arc::new(builder.finish()));
    }
    Ok(trees)
}

/// Lists a folder without checksums, and collects second names of files, each with the first.
fn plain_tree(
    folder: &Path,
    filter: &Filter,
    attributes: Attributes,
    links: &mut BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<Tree, TreeError> {
    let mut builder = Builder::default();
    list(folder, filter, attributes, |stat| {
        builder.add(&stat, None);
        if !stat.is_symlink() && !stat.linkname.is_empty() {
            links.insert(stat.path, stat.linkname);
        }
        ControlFlow::Continue(())
    })?;
    Ok(builder.finish())
}

struct Hasher<'a> {
    root: &'a Path,
    sums: &'a mut BTreeMap<Vec<u8>, Sum>,
    /// How many bytes may still be read.
    left: &'a mut u64,
    stop: &'a AtomicBool,
}

impl Hasher<'_> {
    /// Returns the checksum of a file; `None` if it cannot be read, or not any more.
    fn sum(&mut self, stat: &Stat) -> Option<Sum> {
        if !stat.has_data() {
            return None;
        }
        if let Some(sum) = self.sums.get(&stat.path) {
            return Some(*sum);
        }
        let size = u64::try_from(stat.size).ok()?;
        if self.stop.load(Ordering::Relaxed) || size > *self.left {
            return None;
        }
        *self.left -= size;
        let sum = self.read(stat, size)?;
        self.sums.insert(stat.path.clone(), sum);
        Some(sum)
    }

    fn read(&self, stat: &Stat, size: u64) -> Option<Sum> {
        let path = self.root.join(names::path(&stat.path));
        let mut file = fs_err::File::open(path).ok()?;
        let mut hash = FileHash::new(stat);
        let mut piece = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE)).max(1)];
        let mut seen = 0;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            match file.read(&mut piece).ok()? {
                // One that has changed has no checksum that anybody else has.
                0 => return (seen == size).then(|| hash.finish()),
                count => {
                    hash.update(piece.get(..count)?);
                    seen += count as u64;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{folder, plan};
    use super::*;
    use crate::cache::keys::Content;
    use crate::cache::keys::testing::tree;

    fn contents(plan: &Plan, trees: &Trees) -> Vec<bool> {
        let trees = trees.iter().map(|(name, tree)| (name.clone(), &**tree));
        let facts = Facts {
            trees: trees.collect(),
            ..Facts::default()
        };
        let keys = Keys::of(plan, &facts);
        let whole = tree(&[("a", "a"), ("b", "b"), ("c", "c")]);
        let facts = Facts {
            trees: BTreeMap::from([("context".to_owned(), &whole)]),
            ..Facts::default()
        };
        let expected = Keys::of(plan, &facts);
        let copies = (0..plan.vertices().len()).filter(|at| plan.vertices()[*at].makes_layers());
        let same = |at: usize| match keys.content(at, 1) {
            Content::Unknown(_) => false,
            content => {
                assert_eq!(content, expected.content(at, 1));
                true
            }
        };
        copies.map(same).collect()
    }

    #[test]
    fn files_of_the_wanted_steps_have_checksums() {
        let (plan, (_dir, folders)) = (plan(&[]), folder());
        let last = plan.vertices().len() - 1;
        let (go, stop) = (AtomicBool::new(false), AtomicBool::new(true));
        let mut sums = Sums::new();
        let none = read(
            &plan,
            &folders,
            &BTreeSet::from([last]),
            Limits::MOST,
            &mut sums,
            &stop,
        )
        .unwrap();
        assert_eq!(contents(&plan, &none), [false, false]);
        let one = read(
            &plan,
            &folders,
            &BTreeSet::from([last]),
            Limits::MOST,
            &mut sums,
            &go,
        )
        .unwrap();
        assert_eq!(contents(&plan, &one), [false, true]);
        assert_eq!(sums["context"].len(), 1);
        let all: BTreeSet<usize> = (0..=last).collect();
        let all = read(&plan, &folders, &all, Limits::MOST, &mut sums, &go).unwrap();
        assert_eq!(contents(&plan, &all), [true, true]);
        assert_eq!(sums["context"].len(), 2);
    }

    #[test]
    fn more_files_than_may_be_read_have_no_checksums() {
        let (plan, (_dir, folders)) = (plan(&[]), folder());
        let all: BTreeSet<usize> = (0..plan.vertices().len()).collect();
        let go = AtomicBool::new(false);
        let contents = |files, bytes| {
            let limits = Limits { bytes, files };
            let trees = read(&plan, &folders, &all, limits, &mut Sums::new(), &go).unwrap();
            contents(&plan, &trees)
        };
        assert_eq!(contents(1, 2), [false, false]);
        assert_eq!(contents(2, 1), [true, false]);
        assert_eq!(contents(2, 2), [true, true]);
    }

    #[test]
    fn the_second_name_of_a_file_has_the_checksum_of_the_first() {
        let (plan, (dir, folders)) = (plan(&[]), folder());
        fs_err::remove_file(dir.path().join("b")).unwrap();
        fs_err::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        let last = BTreeSet::from([plan.vertices().len() - 1]);
        let mut sums = Sums::new();
        read(
            &plan,
            &folders,
            &last,
            Limits::MOST,
            &mut sums,
            &AtomicBool::new(false),
        )
        .unwrap();
        assert!(sums["context"].contains_key(&b"a"[..]));
    }
}

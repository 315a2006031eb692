//! The files of local sources, and the checksums of those that steps read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bollard_buildkit_proto::pb::op;
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::PAUSE;
use super::watch::Watch;
use crate::build::context::inputs::Folders;
use crate::cache::keys::header::{FileHash, Sum};
use crate::cache::keys::tree::Builder;
use crate::cache::keys::{Facts, Keys, Plan, Tree, Vertex};
use crate::fsutil::wire::Stat;
use crate::fsutil::{Attributes, Filter, TreeError, list};
use crate::platform::names;

/// How much is read for one build.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of all files; those for which nothing is left have no checksums.
    bytes: u64,
    /// Files; of more none has a checksum.
    files: usize,
}

impl Limits {
    /// While steps run, and after them.
    const MOST: Self = Self {
        bytes: 2 << 30,
        files: usize::MAX,
    };
    /// For a build that has nothing else to do: some hundredths of a second.
    pub(super) const FEW: Self = Self {
        bytes: 32 << 20,
        files: 2000,
    };
}

/// How much of a file is read at once.
const PIECE: usize = 128 * 1024;

/// The files of a build's local sources, by the name of the source.
pub(super) type Trees = BTreeMap<String, Arc<Tree>>;

/// Reads files beside a build.
#[derive(Debug)]
pub(super) struct Reader {
    folders: Folders,
    kept: Arc<Mutex<Kept>>,
    /// Reads what is due when the first step has begun.
    early: Option<AbortOnDropHandle<()>>,
    /// Ends that.
    stop_early: Arc<AtomicBool>,
    /// Ends everything.
    stop: Arc<AtomicBool>,
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Kept {
    sums: Sums,
    /// The last trees, with the checksums that these steps of this plan need.
    last: Option<(Arc<Plan>, BTreeSet<usize>, Trees)>,
}

impl Kept {
    /// Returns the trees with the checksums that these steps need. Blocks where they are not there yet.
    fn trees(
        &mut self,
        plan: &Arc<Plan>,
        folders: &Folders,
        steps: &BTreeSet<usize>,
        limits: Limits,
        stop: &AtomicBool,
    ) -> Result<Trees, TreeError> {
        if let Some((of, read, trees)) = &self.last
            && Arc::ptr_eq(of, plan)
            && steps.is_subset(read)
        {
            return Ok(trees.clone());
        }
        // Two trees of one folder take twice the memory.
        self.last = None;
        let trees = read(plan, folders, steps, limits, &mut self.sums, stop)?;
        // Where reading was stopped, checksums are missing.
        if !stop.load(Ordering::Relaxed) {
            self.last = Some((Arc::clone(plan), steps.clone(), trees.clone()));
        }
        Ok(trees)
    }
}

/// Checksums by the name of the source and the path.
type Sums = BTreeMap<String, BTreeMap<Vec<u8>, Sum>>;

impl Reader {
    /// Reads when it is asked to.
    pub(super) fn new(folders: Folders) -> Self {
        Self {
            folders,
            kept: Arc::default(),
            early: None,
            stop_early: Arc::default(),
            stop: Arc::default(),
        }
    }

    /// Begins to read once a step runs, if anything is to be read at all.
    pub(super) fn start(watch: Arc<Watch>, folders: Folders, is_wanted: bool) -> Self {
        let mut reader = Self::new(folders);
        if is_wanted {
            let (folders, kept) = (reader.folders.clone(), Arc::clone(&reader.kept));
            let stop = Arc::clone(&reader.stop_early);
            let early = tokio::spawn(async move {
                if !watch.step_runs(PAUSE).await {
                    return;
                }
                let (plan, steps) = watch.due();
                let read = move || {
                    if let Err(error) =
                        kept.lock()
                            .trees(&plan, &folders, &steps, Limits::MOST, &stop)
                    {
                        log(&error);
                    }
                };
                if let Err(error) = tokio::task::spawn_blocking(read).await {
                    tracing::debug!(%error, "files are not read early");
                }
            });
            reader.early = Some(AbortOnDropHandle::new(early));
        }
        reader
    }

    /// Returns the trees with the checksums of the files that these steps read.
    pub(super) async fn trees(&self, plan: &Arc<Plan>, steps: &BTreeSet<usize>) -> Trees {
        self.trees_within(Limits::MOST, plan, steps).await
    }

    /// Returns the trees, with checksums as far as the limits go.
    pub(super) async fn trees_within(
        &self,
        limits: Limits,
        plan: &Arc<Plan>,
        steps: &BTreeSet<usize>,
    ) -> Trees {
        self.stop_early.store(true, Ordering::Relaxed);
        if let Some(early) = &self.early {
            early.abort();
        }
        let (plan, folders, steps) = (Arc::clone(plan), self.folders.clone(), steps.clone());
        let (kept, stop) = (Arc::clone(&self.kept), Arc::clone(&self.stop));
        let read = move || kept.lock().trees(&plan, &folders, &steps, limits, &stop);
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(trees)) => trees,
            Ok(Err(error)) => {
                log(&error);
                Trees::new()
            }
            Err(error) => {
                tracing::debug!(%error, "files are not read");
                Trees::new()
            }
        }
    }

    /// Reads nothing more: what is being read comes back as it is.
    pub(super) fn stop(&self) {
        self.stop_early.store(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop();
    }
}

fn log(error: &TreeError) {
    tracing::debug!(error = %crate::error::chain(error), "the files of a context cannot be read");
}

/// Lists the local sources of a plan, and adds the checksums of the files that these steps read to those that are
/// known. Blocks.
fn read(
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

/// Returns what of each local source is sent, by its name: all that any of its vertices wants.
fn filters(plan: &Plan) -> BTreeMap<String, Filter> {
    let mut filters: BTreeMap<String, Filter> = BTreeMap::new();
    for vertex in plan.vertices() {
        let Some(name) = vertex.local_name() else {
            continue;
        };
        let own = filter(vertex);
        match filters.get_mut(name) {
            None => _ = filters.insert(name.to_owned(), own),
            Some(all) if is_whole(all) || is_whole(&own) => {
                all.include.clear();
                all.follow.clear();
            }
            Some(all) => {
                all.include.extend(own.include);
                all.follow.extend(own.follow);
            }
        }
    }
    filters
}

fn is_whole(filter: &Filter) -> bool {
    filter.include.is_empty() && filter.follow.is_empty()
}

/// Reads what a source says of its files (BuildKit `solver/pb/attr.go`).
fn filter(vertex: &Vertex) -> Filter {
    let Ok(op::Op::Source(source)) = &vertex.op else {
        return Filter::default();
    };
    let list = |name: &str| {
        let text = source.attrs.get(name)?;
        serde_json::from_str::<Vec<String>>(text).ok()
    };
    Filter {
        include: list("local.includepattern").unwrap_or_default(),
        exclude: list("local.excludepatterns").unwrap_or_default(),
        follow: list("local.followpaths").unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::pb::SourceOp;

    use super::*;
    use crate::cache::keys::Content;
    use crate::cache::keys::testing::{BASE, Maker, copy, image, tree};

    fn context(attrs: &[(&str, &str)]) -> op::Op {
        let attrs = attrs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        op::Op::Source(SourceOp {
            identifier: "local://context".to_owned(),
            attrs: attrs.collect(),
        })
    }

    /// Copies two files of a context, in one step each.
    fn plan(attrs: &[(&str, &str)]) -> Plan {
        let mut maker = Maker::default();
        let base = maker.add("", image(BASE), &[]);
        let context = maker.add("", context(attrs), &[]);
        let first = maker.add("", copy("/a", "/"), &[&base, &context]);
        let second = maker.add("", copy("/b", "/"), &[&first, &context]);
        Plan::of([&maker.end(&second)])
    }

    fn folder() -> (tempfile::TempDir, Folders) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs_err::write(dir.path().join(name), name).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            std::fs::set_permissions(dir.path().join(name), mode).unwrap();
        }
        let by_name = BTreeMap::from([("context".to_owned(), dir.path().to_owned())]);
        let folders = Folders {
            by_name,
            ..Folders::default()
        };
        (dir, folders)
    }

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
    fn what_was_read_early_is_not_read_again() {
        let (plan, (_dir, folders)) = (Arc::new(plan(&[])), folder());
        let steps: BTreeSet<usize> = (0..plan.vertices().len()).collect();
        let last = BTreeSet::from([plan.vertices().len() - 1]);
        let (go, stop) = (AtomicBool::new(false), AtomicBool::new(true));
        let mut kept = Kept::default();
        let mut read = |steps: &BTreeSet<usize>, stop: &AtomicBool| {
            let trees = kept
                .trees(&plan, &folders, steps, Limits::MOST, stop)
                .unwrap();
            Arc::clone(&trees["context"])
        };
        let stopped = read(&steps, &stop);
        let early = read(&steps, &go);
        assert!(!Arc::ptr_eq(&stopped, &early), "it has no checksums");
        assert!(Arc::ptr_eq(&early, &read(&last, &stop)));
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

    #[test]
    fn what_is_sent_is_listed() {
        let own = plan(&[
            ("local.excludepatterns", r#"["c"]"#),
            ("local.followpaths", r#"["a","b"]"#),
            ("local.includepattern", "no list"),
        ]);
        let filter = &filters(&own)["context"];
        assert_eq!(filter.exclude, ["c"]);
        assert_eq!(filter.follow, ["a", "b"]);
        assert!(filter.include.is_empty());
    }

    #[test]
    fn several_sources_of_one_folder_want_all_of_what_they_want() {
        let of = |lists: &[&str]| {
            let mut maker = Maker::default();
            let base = maker.add("", image(BASE), &[]);
            let contexts = lists.iter().map(|list| match *list {
                "" => context(&[("x", "y")]),
                list => context(&[("local.followpaths", list)]),
            });
            let mut last = base;
            for source in contexts {
                let source = maker.add("", source, &[]);
                last = maker.add("", copy("/a", "/"), &[&last, &source]);
            }
            let plan = Plan::of([&maker.end(&last)]);
            let mut follow = filters(&plan)["context"].follow.clone();
            follow.sort();
            follow
        };
        assert_eq!(of(&[r#"["a"]"#, r#"["b"]"#]), ["a", "b"]);
        assert!(of(&[r#"["a"]"#, ""]).is_empty());
    }
}

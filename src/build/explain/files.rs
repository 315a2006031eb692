//! The files of local sources, and the checksums of those that steps read.

mod filters;
mod reading;
#[cfg(test)]
mod testing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use self::reading::read;
use super::PAUSE;
use super::watch::Watch;
use crate::build::context::inputs::Folders;
use crate::cache::keys::header::Sum;
use crate::cache::keys::{Plan, Tree};
use crate::fsutil::TreeError;

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

    /// Returns the folders that it reads.
    pub(super) fn folders(&self) -> &Folders {
        &self.folders
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

#[cfg(test)]
mod tests {
    use super::testing::{folder, plan};
    use super::*;

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
}

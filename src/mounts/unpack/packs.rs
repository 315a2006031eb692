//! The packs that a stream is made of: fetched and decompressed on one thread, used on another one.
//!
//! Both go over the same chunks in the same order, and keep the same packs; so whoever loads knows which one is needed next.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use crate::mounts::index::{Chunk, Index, PackRef};

/// Packs that are kept at a time.
const KEPT: usize = 3;

/// A pack by its number.
pub(super) type Loaded = (u32, Arc<Vec<u8>>);

/// The packs that were used last.
struct Recent<T>(VecDeque<(u32, T)>);

impl<T: Clone> Recent<T> {
    fn new() -> Self {
        Self(VecDeque::with_capacity(KEPT))
    }

    /// Returns one that is kept.
    fn get(&mut self, number: u32) -> Option<T> {
        let at = self.0.iter().position(|(kept, _)| *kept == number)?;
        let found = self.0.remove(at)?;
        let pack = found.1.clone();
        self.0.push_back(found);
        Some(pack)
    }

    /// Makes room for one more.
    fn make_room(&mut self) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
    }

    fn keep(&mut self, number: u32, pack: T) {
        self.0.push_back((number, pack));
    }
}

/// Loads packs.
pub(super) struct Loader<'a> {
    index: &'a Index,
    fetch: &'a mut (dyn FnMut(&PackRef) -> io::Result<Vec<u8>> + Send),
    recent: Recent<()>,
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        index: &'a Index,
        fetch: &'a mut (dyn FnMut(&PackRef) -> io::Result<Vec<u8>> + Send),
    ) -> Self {
        Self {
            index,
            fetch,
            recent: Recent::new(),
        }
    }

    /// Loads the packs of these chunks, each when it is needed and not kept any more, until nobody takes them.
    pub(super) fn load<'c>(
        mut self,
        chunks: impl Iterator<Item = &'c Chunk>,
        to: &SyncSender<Loaded>,
    ) -> io::Result<()> {
        for chunk in chunks {
            if self.recent.get(chunk.pack).is_some() {
                continue;
            }
            let pack = self.one(chunk.pack)?;
            self.recent.make_room();
            self.recent.keep(chunk.pack, ());
            if to.send((chunk.pack, Arc::new(pack))).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn one(&mut self, number: u32) -> io::Result<Vec<u8>> {
        let pack = self.index.packs.get(number as usize);
        let pack = pack.ok_or_else(|| io::Error::other("the index names no such pack"))?;
        let stored = (self.fetch)(pack)?;
        let is_not = || io::Error::other("a pack is not what the index says");
        let size = usize::try_from(pack.plain).map_err(|_| is_not())?;
        let plain = zstd::bulk::decompress(&stored, size)?;
        (plain.len() == size).then_some(plain).ok_or_else(is_not)
    }
}

/// Packs as they come from the [`Loader`].
pub(super) struct Packs {
    from: Receiver<Loaded>,
    recent: Recent<Arc<Vec<u8>>>,
}

impl Packs {
    pub(super) fn new(from: Receiver<Loaded>) -> Self {
        Self {
            from,
            recent: Recent::new(),
        }
    }

    pub(super) fn get(&mut self, number: u32) -> io::Result<Arc<Vec<u8>>> {
        if let Some(pack) = self.recent.get(number) {
            return Ok(pack);
        }
        self.recent.make_room();
        // The loader has failed where none comes, and says why.
        let next = self.from.recv().ok().filter(|(next, _)| *next == number);
        let (_, pack) = next.ok_or_else(|| io::Error::other("a pack was not loaded"))?;
        self.recent.keep(number, Arc::clone(&pack));
        Ok(pack)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::thread;

    use super::*;
    use crate::digest::Digest;

    fn chunk(pack: u32) -> Chunk {
        Chunk {
            pack,
            offset: 0,
            length: 1,
            hash: [0; 32],
        }
    }

    #[test]
    fn packs_come_when_they_are_needed_and_few_are_held() {
        let stored = |number: u8| zstd::bulk::compress(&[number; 9], 1).unwrap();
        let packs = (0..6).map(|number| PackRef {
            digest: Digest::of(&[number]),
            stored: 0,
            plain: 9,
        });
        let index = Index {
            packs: packs.collect(),
            nodes: Vec::new(),
        };
        // The first one is used again and again, and the second one after it was let go.
        let numbers = [0, 1, 0, 2, 0, 3, 0, 1, 4, 5, 5];
        let chunks = numbers.map(chunk);
        let mut fetched = Vec::new();
        let mut fetch = |pack: &PackRef| {
            let number = index.packs.iter().position(|one| one == pack).unwrap();
            fetched.push(number);
            Ok(stored(u8::try_from(number).unwrap()))
        };
        let (loading, chunks) = (Loader::new(&index, &mut fetch), &chunks);
        thread::scope(|scope| {
            let (loaded, packs) = sync_channel(0);
            let loading = scope.spawn(move || loading.load(chunks.iter(), &loaded));
            let mut packs = Packs::new(packs);
            for number in numbers {
                let pack = packs.get(number).unwrap();
                assert_eq!(u32::from(pack[8]), number);
                assert!(packs.recent.0.len() <= KEPT);
            }
            assert!(packs.get(2).is_err());
            loading.join().unwrap().unwrap();
        });
        assert_eq!(fetched, [0, 1, 2, 3, 1, 4, 5]);
    }

    #[test]
    fn a_pack_that_is_larger_than_it_is_said_to_be_is_refused() {
        let index = Index {
            packs: vec![PackRef {
                digest: Digest::of(b"x"),
                stored: 0,
                plain: 8,
            }],
            nodes: Vec::new(),
        };
        for size in [7, 9, 1 << 20] {
            let mut fetch = |_: &PackRef| zstd::bulk::compress(&vec![0; size], 1);
            let mut loader = Loader::new(&index, &mut fetch);
            assert!(loader.one(0).is_err(), "{size}");
        }
    }
}

//! Which caches were read in the end, by what registries and builder said.

use super::probe::ProbeResult;
use super::set::{Imports, Slot};
use super::watch::{Heard, Watch};
use crate::build::cache::ends::ReadEnd;

/// What became of one cache, before it is known what became of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    Is(ReadEnd),
    /// It is left out, since another one of its repository has all of it.
    InAnother,
}

impl Imports {
    /// Returns what became of the registry caches, in the order of the flags; those of which nobody has said anything are left
    /// out.
    pub fn ends(&self, watch: &Watch) -> Vec<(String, ReadEnd)> {
        ends(&self.slots, watch)
    }
}

fn ends(slots: &[Slot], watch: &Watch) -> Vec<(String, ReadEnd)> {
    let own = slots.iter().filter_map(|slot| {
        let remote = slot.registry.as_ref()?;
        Some((remote, slot.own_end(watch)?))
    });
    let own: Vec<_> = own.collect();
    let ends = own.iter().map(|(remote, end)| {
        let end = match end {
            Own::Is(end) => *end,
            Own::InAnother => {
                let of_repository = own.iter().filter(|(other, _)| {
                    let reference = &remote.source.reference;
                    other.source.reference.same_repository(reference)
                });
                let is_read = of_repository.map(|(_, end)| *end);
                if is_read.into_iter().any(|end| end == Own::Is(ReadEnd::Read)) {
                    ReadEnd::Read
                } else {
                    ReadEnd::Failed
                }
            }
        };
        (remote.source.raw_ref.clone(), end)
    });
    ends.collect()
}

impl Slot {
    fn own_end(&self, watch: &Watch) -> Option<Own> {
        let remote = self.registry.as_ref()?;
        let is = |end| Some(Own::Is(end));
        let names = self.names_for_the_builder();
        let heard = names.iter().find_map(|name| watch.heard(name));
        if remote.unread.is_some() || heard == Some(Heard::Failed) {
            return is(ReadEnd::Failed);
        }
        match (remote.answer.as_deref(), &self.entry) {
            // It was there, and the builder did not find it, or part of it.
            (Some(ProbeResult::Found(..)), Some(_)) if heard == Some(Heard::Missing) => {
                is(ReadEnd::Failed)
            }
            (Some(ProbeResult::Found(..)), Some(_)) => is(ReadEnd::Read),
            // A blob of it could not be read, and the build was run again.
            (Some(ProbeResult::Found(..)), None) if remote.healed => is(ReadEnd::Failed),
            (Some(ProbeResult::Found(..)), None) => Some(Own::InAnother),
            (Some(ProbeResult::Missing), None) => is(ReadEnd::Missing),
            (_, Some(_)) => match heard {
                Some(Heard::Read) => is(ReadEnd::Read),
                Some(Heard::Missing) => is(ReadEnd::Missing),
                _ if matches!(remote.answer.as_deref(), Some(ProbeResult::Missing)) => {
                    is(ReadEnd::Missing)
                }
                _ => None,
            },
            (_, None) => is(ReadEnd::Failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bollard_buildkit_proto::google::protobuf::Timestamp;
    use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex};

    use super::super::recover::tests::cache;
    use super::*;
    use crate::digest::Digest;
    use crate::reference::Reference;

    /// What the builder has said of caches, each with the error of its import.
    fn watch(said: &[(&str, &str)]) -> Watch {
        let vertexes = said.iter().map(|(name, error)| Vertex {
            name: format!("importing cache manifest from {name}"),
            error: (*error).to_owned(),
            completed: Some(Timestamp::default()),
            ..Vertex::default()
        });
        let mut watch = Watch::default();
        watch.look(&mut StatusResponse {
            vertexes: vertexes.collect(),
            ..StatusResponse::default()
        });
        watch
    }

    fn slot(tag: &str, answer: Option<ProbeResult>) -> Slot {
        let mut slot = cache(&Digest::of(tag.as_bytes()));
        let raw_ref = format!("127.0.0.1:1/a:{tag}");
        let remote = slot.registry.as_mut().unwrap();
        remote.source.reference = Reference::parse_normalized(&raw_ref).unwrap();
        let attrs = slot.entry.as_mut().map(|entry| &mut entry.attrs).unwrap();
        attrs.insert("ref".into(), raw_ref.clone());
        remote.source.raw_ref = raw_ref;
        if let Some(answer) = answer {
            remote.answer = Some(Arc::new(answer));
        }
        slot
    }

    fn told(slots: &[Slot], said: &[(&str, &str)]) -> Vec<(String, ReadEnd)> {
        let ends = ends(slots, &watch(said)).into_iter();
        ends.map(|(name, end)| (name.replace("127.0.0.1:1/a:", ""), end))
            .collect()
    }

    #[test]
    fn what_the_builder_could_not_read_was_not_read() {
        let own = slot("own", None);
        let mut taken_in = slot("main", None);
        taken_in.entry = None;
        let slots = [own, taken_in];
        let is = |own, main| vec![("own".to_owned(), own), ("main".to_owned(), main)];
        let said = |error: &'static str| [("127.0.0.1:1/a:own", error)];
        assert_eq!(told(&slots, &[]), is(ReadEnd::Read, ReadEnd::Read));
        assert_eq!(told(&slots, &said("")), is(ReadEnd::Read, ReadEnd::Read));
        // Nor was what only the other one would have brought.
        for error in [
            "dial tcp 127.0.0.1:1: connect: connection refused",
            "failed to configure registry cache importer: 127.0.0.1:1/a:own: not found",
        ] {
            let ends = told(&slots, &said(error));
            assert_eq!(ends, is(ReadEnd::Failed, ReadEnd::Failed), "{error}");
        }
    }

    #[test]
    fn where_nobody_here_knows_the_builder_does() {
        let unknown = || slot("c", Some(ProbeResult::Unknown("firewall".into())));
        let name = "127.0.0.1:1/a:c";
        let missing = "failed to configure registry cache importer: 127.0.0.1:1/a:c: not found";
        let of = |slot: Slot, said: &[(&str, &str)]| {
            let ends = told(&[slot], said);
            ends.first().map(|(_, end)| *end)
        };
        assert_eq!(of(unknown(), &[(name, "")]), Some(ReadEnd::Read));
        assert_eq!(of(unknown(), &[(name, missing)]), Some(ReadEnd::Missing));
        assert_eq!(of(unknown(), &[(name, "401")]), Some(ReadEnd::Failed));
        assert_eq!(of(unknown(), &[]), None, "nobody has said anything");
        let missing_here = slot("c", Some(ProbeResult::Missing));
        assert_eq!(of(missing_here, &[]), Some(ReadEnd::Missing));
        let mut silent = slot("c", Some(ProbeResult::Silent));
        silent.entry = None;
        assert_eq!(of(silent, &[]), Some(ReadEnd::Failed));
        let mut given_up = slot("c", None);
        given_up.entry = None;
        given_up.registry.as_mut().unwrap().healed = true;
        assert_eq!(of(given_up, &[]), Some(ReadEnd::Failed));
    }
}

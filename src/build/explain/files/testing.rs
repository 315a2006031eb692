//! A build that copies two files, and its context.

use std::collections::BTreeMap;

use bollard_buildkit_proto::pb::{SourceOp, op};

use crate::build::context::inputs::Folders;
use crate::cache::keys::Plan;
use crate::cache::keys::testing::{BASE, Maker, copy, image};
use crate::platform::files::permissions;

pub(super) fn context(attrs: &[(&str, &str)]) -> op::Op {
    let attrs = attrs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    op::Op::Source(SourceOp {
        identifier: "local://context".to_owned(),
        attrs: attrs.collect(),
    })
}

/// Copies two files of a context, in one step each.
pub(super) fn plan(attrs: &[(&str, &str)]) -> Plan {
    let mut maker = Maker::default();
    let base = maker.add("", image(BASE), &[]);
    let context = maker.add("", context(attrs), &[]);
    let first = maker.add("", copy("/a", "/"), &[&base, &context]);
    let second = maker.add("", copy("/b", "/"), &[&first, &context]);
    Plan::of([&maker.end(&second)])
}

pub(super) fn folder() -> (tempfile::TempDir, Folders) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs_err::write(dir.path().join(name), name).unwrap();
        let mode = permissions(0o644);
        std::fs::set_permissions(dir.path().join(name), mode).unwrap();
    }
    let by_name = BTreeMap::from([("context".to_owned(), dir.path().to_owned())]);
    let folders = Folders {
        by_name,
        ..Folders::default()
    };
    (dir, folders)
}

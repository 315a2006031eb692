//! What of each local source is sent.

use std::collections::BTreeMap;

use bollard_buildkit_proto::pb::op;

use crate::cache::keys::{Plan, Vertex};
use crate::fsutil::Filter;

/// Returns what of each local source is sent, by its name: all that any of its vertices wants.
pub(super) fn filters(plan: &Plan) -> BTreeMap<String, Filter> {
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
    use super::super::testing::{context, plan};
    use super::*;
    use crate::cache::keys::testing::{BASE, Maker, copy, image};

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

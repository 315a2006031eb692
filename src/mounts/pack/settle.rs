//! The entries of a stream, which may come in any order, as a tree in order.

use std::mem;

use super::{Kind, Node};

/// Puts the nodes in order. Left out is what lies in no folder, because the tree changed while it was read, and a hard link to
/// what is not there, such as a socket. Of a path that comes twice the last stays, as when it is unpacked.
pub(super) fn settled(mut nodes: Vec<Node>) -> Vec<Node> {
    nodes.reverse();
    nodes.sort_by(|a, b| a.path.cmp(&b.path));
    nodes.dedup_by(|b, a| a.path == b.path);
    let mut is_kept: Vec<bool> = Vec::with_capacity(nodes.len());
    for node in &nodes {
        let parent = node.path.iter().rposition(|byte| *byte == b'/');
        let parent = parent.and_then(|at| node.path.get(..at));
        let is_in_folder = |parent| {
            let at = place_of(&nodes, parent, Kind::Folder)?;
            is_kept.get(at).copied()
        };
        let keeps = parent.is_none_or(|parent| is_in_folder(parent) == Some(true));
        is_kept.push(keeps);
    }
    let mut is_kept = is_kept.into_iter();
    nodes.retain(|_| is_kept.next() == Some(true));
    let leads = |node: &Node| {
        node.kind != Kind::HardLink || place_of(&nodes, &node.target, Kind::File).is_some()
    };
    let leads: Vec<bool> = nodes.iter().map(leads).collect();
    let mut leads = leads.into_iter();
    nodes.retain(|_| leads.next() == Some(true));
    name_by_first(&mut nodes);
    nodes
}

/// Returns where the node of this kind with a path is.
fn place_of(nodes: &[Node], path: &[u8], kind: Kind) -> Option<usize> {
    let at = nodes.binary_search_by(|node| (*node.path).cmp(path)).ok()?;
    nodes.get(at).filter(|node| node.kind == kind).map(|_| at)
}

/// Of the names of one file the first in order is the file, and the others are links to it: which one a tar stream has so
/// depends on the order in which a folder is read.
fn name_by_first(nodes: &mut [Node]) {
    let links = nodes.iter().enumerate();
    let links = links.filter(|(_, node)| node.kind == Kind::HardLink);
    let links =
        links.filter_map(|(at, node)| Some((place_of(nodes, &node.target, Kind::File)?, at)));
    let mut links: Vec<(usize, usize)> = links.collect();
    links.sort_unstable();
    for names in links.chunk_by(|a, b| a.0 == b.0) {
        if let Some((file, first)) = names.first().filter(|(file, first)| first < file) {
            change_places(nodes, *file, *first);
            let target = nodes.get(*first).map(|node| node.path.clone());
            for (_, link) in names.get(1..).unwrap_or_default() {
                if let (Some(node), Some(target)) = (nodes.get_mut(*link), &target) {
                    node.target.clone_from(target);
                }
            }
        }
    }
}

/// Makes a link to a file the file, and that a link to it.
fn change_places(nodes: &mut [Node], file: usize, link: usize) {
    let [Some(first), Some(content)] = [link, file].map(|at| nodes.get_mut(at).map(mem::take))
    else {
        return;
    };
    let other = Node {
        kind: Kind::HardLink,
        target: first.path.clone(),
        chunks: Box::default(),
        ..content.clone()
    };
    let content = Node {
        path: first.path,
        ..content
    };
    for (at, node) in [(link, content), (file, other)] {
        if let Some(place) = nodes.get_mut(at) {
            *place = node;
        }
    }
}

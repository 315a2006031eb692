//! Keys of the files that a step reads of an input (BuildKit `cache/contenthash/checksum.go`,
//! `solver/llbsolver/ops/opsutils/contenthash.go`).

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use super::tree::{self, Node, Tree};
use super::{Unknown, record};
use crate::digest::Digest;
use crate::fsutil::{Glob, Matcher, PatternError, join_paths};

/// The output that stands for the files of a result.
const FILES: i64 = -1;

/// Files that a step reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// Path in the input, or a pattern.
    pub path: String,
    /// Whether the path is a pattern.
    pub wildcard: bool,
    /// Whether a link as the last part of the path is followed.
    pub follow_links: bool,
    /// Of what the path leads to, only these.
    pub include: Vec<String>,
    /// And not these.
    pub exclude: Vec<String>,
    /// Paths of which something must exist.
    pub required: Vec<String>,
}

impl Selector {
    pub(super) fn has_patterns(&self) -> bool {
        self.wildcard || !self.include.is_empty() || !self.exclude.is_empty()
    }
}

/// How the files that patterns find are written into their checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// By their paths below the place where the pattern begins: BuildKit 0.26 and later.
    Paths,
    /// By their names.
    Names,
}

/// Returns the keys that the selected files may have, without duplicates: BuildKit changed how the
/// files of a pattern are counted.
///
/// # Errors
///
/// Tells what is missing.
pub fn keys(tree: &Tree, selectors: &[Selector]) -> Result<Vec<Digest>, Unknown> {
    let all = [Selector::default()];
    let selectors = if selectors.is_empty() {
        &all
    } else {
        selectors
    };
    let mut keys = Vec::new();
    for form in [Form::Paths, Form::Names] {
        let sums: Result<Vec<String>, Unknown> = selectors
            .iter()
            .map(|selector| checksum(tree, selector, form))
            .collect();
        let key = record(&joined(&sums?), FILES);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// Returns the paths of the files that patterns find, folders included; of a selector without
/// patterns its path.
///
/// # Errors
///
/// Fails if a pattern is invalid or links lead in a circle.
#[cfg(test)]
pub fn found(tree: &Tree, selector: &Selector) -> Result<BTreeSet<String>, Unknown> {
    let path = join_paths("/", &selector.path);
    if !selector.has_patterns() {
        return Ok(BTreeSet::from([path]));
    }
    let found = Search::new(&path, selector)?.run(tree)?;
    Ok(found.paths.into_iter().map(|found| found.path).collect())
}

/// Returns the regular files whose content goes into the keys of the selected files, as paths below the
/// root. What cannot be found is left out.
pub fn read_by(tree: &Tree, selectors: &[Selector]) -> BTreeSet<Vec<u8>> {
    collect(
        tree,
        selectors,
        |path, follow_links, read| tree.files_below(path, follow_links, read),
        |one, read| {
            let is_followed = one.follow_links && matches!(one.node, Node::Symlink { .. });
            if is_followed || matches!(one.node, Node::File(_)) {
                tree.files_below(one.path.as_bytes(), one.follow_links, read);
            }
        },
    )
}

/// Returns the files and symbolic links that selectors select, as paths below the root, which need not be
/// UTF-8. What cannot be found is left out.
pub fn selected(tree: &Tree, selectors: &[Selector]) -> BTreeSet<Vec<u8>> {
    let links = collect(
        tree,
        selectors,
        |path, follow_links, links| tree.links_below(path, follow_links, links),
        |one, links| {
            if matches!(one.node, Node::Symlink { .. }) && !one.follow_links {
                links.insert(one.path.trim_start_matches('/').as_bytes().to_vec());
            }
        },
    );
    &read_by(tree, selectors) | &links
}

/// Returns the folders that selectors select, as paths below the root with a slash at the end. What cannot be found is left
/// out.
pub fn folders(tree: &Tree, selectors: &[Selector]) -> BTreeSet<Vec<u8>> {
    collect(
        tree,
        selectors,
        |path, follow_links, folders| tree.folders_below(path, follow_links, folders),
        |one, folders| {
            let path = one.path.trim_start_matches('/');
            if matches!(one.node, Node::Header { .. }) && !path.is_empty() {
                folders.insert(format!("{path}/").into_bytes());
            }
        },
    )
}

/// Collects paths: from each selector without patterns those that `whole` adds of its path and whether links are
/// followed, from each with patterns those that `one` adds of what it finds. No selector selects all.
fn collect(
    tree: &Tree,
    selectors: &[Selector],
    whole: impl Fn(&[u8], bool, &mut BTreeSet<Vec<u8>>),
    one: impl Fn(&FoundPath<'_>, &mut BTreeSet<Vec<u8>>),
) -> BTreeSet<Vec<u8>> {
    let all = [Selector::default()];
    let selectors = if selectors.is_empty() {
        &all
    } else {
        selectors
    };
    let mut paths = BTreeSet::new();
    for selector in selectors {
        let path = join_paths("/", &selector.path);
        if !selector.has_patterns() {
            whole(path.as_bytes(), selector.follow_links, &mut paths);
            continue;
        }
        let found = Search::new(&path, selector).and_then(|search| search.run(tree));
        for found in found.iter().flat_map(|found| &found.paths) {
            one(found, &mut paths);
        }
    }
    paths
}

/// Returns the digest of texts, joined as BuildKit joins them.
pub(super) fn joined<T: AsRef<str>>(texts: &[T]) -> Digest {
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    Digest::of(texts.join("\0").as_bytes())
}

/// Leaves out paths below other paths, and sorts the rest. One path alone stays as it is.
pub(super) fn outermost(paths: &[String]) -> Vec<String> {
    if paths.len() <= 1 {
        return paths.to_vec();
    }
    let all: BTreeSet<&String> = paths.iter().collect();
    let covers = |above: &str, path: &str| {
        let below = path.strip_prefix(above.strip_suffix('/').unwrap_or(above));
        above != path && below.is_some_and(|below| below.starts_with('/'))
    };
    let outer = all
        .iter()
        .filter(|path| !all.iter().any(|above| covers(above, path)));
    outer.map(|path| (*path).clone()).collect()
}

/// Returns whether a path is a pattern.
pub(super) fn has_wildcard(path: &str) -> bool {
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

fn checksum(tree: &Tree, selector: &Selector, form: Form) -> Result<String, Unknown> {
    let path = join_paths("/", &selector.path);
    if !selector.has_patterns() {
        return tree.checksum(path.as_bytes(), selector.follow_links);
    }
    let found = Search::new(&path, selector)?.run(tree)?;
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    match found.paths.as_slice() {
        [] => return Ok(Digest::of(b"").to_string()),
        [one] if name(&path) == name(&one.path) => return one.digest(tree),
        _ => {}
    }
    let mut hash = Sha256::new();
    for (at, one) in found.paths.iter().enumerate() {
        match form {
            Form::Paths => {
                let below = one.path.strip_prefix(&found.prefix).unwrap_or(&one.path);
                let key = below.replace('/', "\0");
                hash.update(if key.is_empty() { "\0" } else { &key });
            }
            Form::Names => {
                hash.update(if at == 0 { "" } else { "\0" });
                hash.update(name(&one.path));
            }
        }
        hash.update(one.digest(tree)?);
    }
    Ok(Digest::from_sha256(hash.finalize().into()).to_string())
}

/// What a search found, in BuildKit's order.
struct Found<'t> {
    /// The path before the first pattern.
    prefix: String,
    paths: Vec<FoundPath<'t>>,
}

#[derive(Clone)]
struct FoundPath<'t> {
    path: String,
    node: &'t Node,
    follow_links: bool,
}

impl FoundPath<'_> {
    fn digest(&self, tree: &Tree) -> Result<String, Unknown> {
        if self.follow_links && matches!(self.node, Node::Symlink { .. }) {
            return tree.checksum(self.path.as_bytes(), true);
        }
        self.node.digest()
    }
}

/// A search for the files of a selector.
struct Search<'s> {
    /// Clean, and empty for the root.
    path: &'s str,
    glob: Option<Glob>,
    follow_links: bool,
    include: Option<Matcher>,
    exclude: Option<Matcher>,
    required: &'s [String],
}

/// What patterns say of a folder, for what is in it. `None` if they were not asked.
#[derive(Clone, Default)]
struct Matched {
    include: Option<Vec<bool>>,
    exclude: Option<Vec<bool>>,
}

/// A folder on the way to what is found.
struct Parent<'t> {
    found: FoundPath<'t>,
    matched: Matched,
    included: bool,
}

impl<'s> Search<'s> {
    fn new(path: &'s str, selector: &'s Selector) -> Result<Self, Unknown> {
        let path = if path == "/" { "" } else { path };
        let matcher = |patterns: &[String]| match patterns {
            [] => Ok(None),
            _ => Matcher::new(patterns)
                .map(Some)
                .map_err(|_| Unknown::Pattern),
        };
        let glob = selector.wildcard.then(|| Glob::new(path));
        Ok(Self {
            path,
            glob: glob.transpose().map_err(|_| Unknown::Pattern)?,
            follow_links: selector.follow_links,
            include: matcher(&selector.include)?,
            exclude: matcher(&selector.exclude)?,
            required: &selector.required,
        })
    }

    fn run<'t>(&self, tree: &'t Tree) -> Result<Found<'t>, Unknown> {
        let (prefix, wanted, follow_last) = self.start();
        let (start, node) = tree.resolve(&tree::key(prefix.as_bytes()), follow_last)?;
        let mut walk = Walk::default();
        if node.is_none() {
            return self.checked(Found {
                prefix,
                paths: walk.found,
            });
        }
        // What a link on the way leads to is found under the path that was asked for.
        let resolved = tree::path(&start);
        for (key, node) in tree.from(start) {
            let path = tree::path(key);
            let path = match path.strip_prefix(&resolved) {
                Some(below) => format!("{prefix}{below}"),
                None => path,
            };
            if !self.visit(&mut walk, path, node, &wanted)? {
                break;
            }
        }
        self.checked(Found {
            prefix,
            paths: walk.found,
        })
    }

    /// Returns the path before the first pattern, what must be below it, and whether its last part is
    /// followed.
    fn start(&self) -> (String, String, bool) {
        if self.glob.is_none() {
            return (self.path.to_owned(), self.path.to_owned(), false);
        }
        let parts: Vec<&str> = self.path.split('/').collect();
        let plain = parts.iter().take_while(|part| !has_wildcard(part));
        let plain: Vec<&str> = plain.copied().collect();
        let follow_last = plain.len() < parts.len();
        (plain.join("/"), String::new(), follow_last)
    }

    /// Looks at one node; false ends the walk.
    fn visit<'t>(
        &self,
        walk: &mut Walk<'t>,
        mut path: String,
        node: &'t Node,
        wanted: &str,
    ) -> Result<bool, Unknown> {
        while let Some(parent) = walk.parents.last()
            && !path.starts_with(&format!("{}/", parent.found.path))
        {
            walk.parents.pop();
        }
        let is_header = matches!(node, Node::Header { .. });
        if is_header {
            path.pop();
            if path.is_empty() && self.path.is_empty() {
                // The header of the root does not count.
                return Ok(true);
            }
        }
        let place = match &self.glob {
            Some(glob) => {
                let in_last = walk.last_match.as_ref();
                if !in_last.is_some_and(|last| path.starts_with(&format!("{last}/"))) {
                    if !glob.matches(&path) {
                        return Ok(true);
                    }
                    walk.last_match = Some(path.clone());
                }
                below(&path, walk.last_match.as_deref().unwrap_or_default())
            }
            None if !format!("{path}/").starts_with(&format!("{wanted}/")) => return Ok(false),
            None => below(&path, wanted),
        };
        let parent = walk.parents.last();
        let above = parent.map(|parent| &parent.matched);
        let (include, matched) = self.includes(&place, above).map_err(|_| Unknown::Pattern)?;
        let found = FoundPath {
            path,
            node,
            follow_links: parent.is_none() && self.follow_links,
        };
        if include && !matches!(node, Node::Folder(_)) {
            for parent in walk.parents.iter_mut().filter(|parent| !parent.included) {
                parent.included = true;
                walk.found.push(parent.found.clone());
            }
            walk.found.push(found.clone());
        }
        if is_header {
            walk.parents.push(Parent {
                found,
                matched,
                included: include,
            });
        }
        Ok(true)
    }

    fn includes(
        &self,
        place: &str,
        parent: Option<&Matched>,
    ) -> Result<(bool, Matched), PatternError> {
        let mut matched = Matched::default();
        let ask = |matcher: &Matcher, above: Option<&Vec<bool>>| match above {
            Some(above) => {
                let mut here = Vec::new();
                let is = matcher.matches_below(place, above, &mut here)?;
                Ok((is, here))
            }
            None => matcher.matches_levels(place),
        };
        if let Some(include) = &self.include {
            let (is, here) = ask(include, parent.and_then(|p| p.include.as_ref()))?;
            matched.include = Some(here);
            if !is {
                return Ok((false, matched));
            }
        }
        if let Some(exclude) = &self.exclude {
            let (is, here) = ask(exclude, parent.and_then(|p| p.exclude.as_ref()))?;
            matched.exclude = Some(here);
            if is {
                return Ok((false, matched));
            }
        }
        Ok((true, matched))
    }

    fn checked<'t>(&self, found: Found<'t>) -> Result<Found<'t>, Unknown> {
        let exists = |wanted: &String| found.paths.iter().any(|f| f.path.starts_with(wanted));
        if self.required.iter().all(exists) {
            Ok(found)
        } else {
            Err(Unknown::NoFile)
        }
    }
}

#[derive(Default)]
struct Walk<'t> {
    found: Vec<FoundPath<'t>>,
    parents: Vec<Parent<'t>>,
    last_match: Option<String>,
}

/// Returns what stands below a folder, without a slash at either end.
fn below(path: &str, folder: &str) -> String {
    let path = format!("{path}/");
    let below = path.strip_prefix(&format!("{folder}/")).unwrap_or(&path);
    below.strip_suffix('/').unwrap_or(below).to_owned()
}

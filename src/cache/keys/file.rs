//! Keys of file operations: `COPY`, `ADD`, `WORKDIR` and heredocs (BuildKit
//! `solver/llbsolver/ops/file.go`).

use std::collections::{BTreeMap, BTreeSet};

use bollard_buildkit_proto::pb::{
    ChownOpt, FileAction, FileActionCopy, FileActionMkDir, FileActionMkFile, FileActionRm,
    FileActionSymlink, FileOp, UserOpt, file_action::Action, user_opt::User,
};

use super::content::{self, Selector};
use super::go_json::{Object, array, base64};
use super::{InputRule, StepKey, Unknown};
use crate::digest::Digest;

/// Stands for no input, and for no output.
const NONE: i64 = -1;

/// What the actions read of each input, and the inputs that they change.
#[derive(Default)]
struct Reads {
    paths: BTreeMap<usize, Vec<Selector>>,
    changed: BTreeSet<i64>,
}

/// Returns the key of a file operation.
pub(super) fn key(file: &FileOp, inputs: usize) -> Result<StepKey, Unknown> {
    if file.actions.is_empty() {
        return Err(Unknown::Invalid("no actions"));
    }
    let mut reads = Reads::default();
    let mut actions = Vec::new();
    for action in &file.actions {
        reads.changed.insert(action.input);
        let json = action_json(action, inputs, &mut reads)?;
        actions.push(base64(json.as_bytes()));
    }
    let json = Object::new()
        .raw("Type", "\"buildkit.file.v0\"")
        .raw("Actions", &array(&actions))
        .list("indexes", &indexes(&file.actions))
        .end();
    Ok(StepKey {
        digests: vec![Digest::of(json.as_bytes())],
        inputs: reads.rules(inputs)?,
    })
}

fn action_json(action: &FileAction, inputs: usize, reads: &mut Reads) -> Result<String, Unknown> {
    let kind = action.action.as_ref().ok_or(Unknown::NewKind)?;
    let owner = match kind {
        Action::Copy(copy) => copy.owner.as_ref(),
        Action::Mkfile(file) => file.owner.as_ref(),
        Action::Mkdir(folder) => folder.owner.as_ref(),
        Action::Symlink(_) | Action::Rm(_) => None,
    };
    if let Some(owner) = owner {
        reads.owner(owner)?;
    }
    Ok(match kind {
        Action::Copy(copy) => {
            let from = usize::try_from(action.secondary_input).ok();
            match from.filter(|from| *from < inputs) {
                Some(from) => {
                    reads.add(from, source(copy));
                    copy_json(copy, base(&copy.src))
                }
                None => copy_json(copy, &copy.src),
            }
        }
        Action::Mkfile(file) => mkfile(file),
        Action::Mkdir(folder) => mkdir(folder),
        Action::Symlink(link) => symlink(link),
        Action::Rm(removed) => rm(removed),
    })
}

impl Reads {
    fn add(&mut self, input: usize, selector: Selector) {
        self.paths.entry(input).or_default().push(selector);
    }

    /// A user's or a group's name is looked up in the files of an input.
    fn owner(&mut self, owner: &ChownOpt) -> Result<(), Unknown> {
        let names = [
            (owner.user.as_ref(), "/etc/passwd"),
            (owner.group.as_ref(), "/etc/group"),
        ];
        for (user, path) in names {
            let Some(User::ByName(name)) = user.and_then(|user| user.user.as_ref()) else {
                continue;
            };
            let input = usize::try_from(name.input).map_err(|_| Unknown::MissingInput)?;
            let selector = Selector {
                path: path.to_owned(),
                follow_links: true,
                ..Selector::default()
            };
            self.add(input, selector);
        }
        Ok(())
    }

    fn rules(self, inputs: usize) -> Result<Vec<InputRule>, Unknown> {
        let mut rules = vec![InputRule::default(); inputs];
        for (input, selectors) in self.paths {
            let rule = rules.get_mut(input).ok_or(Unknown::MissingInput)?;
            let number = i64::try_from(input).map_err(|_| Unknown::MissingInput)?;
            if self.changed.contains(&number) {
                continue;
            }
            let mut paths: Vec<String> = selectors.iter().map(|s| s.path.clone()).collect();
            paths.sort();
            paths.reverse();
            rule.selector = Some(content::joined(&paths));
            rule.content = Some(without_covered(selectors));
        }
        Ok(rules)
    }
}

fn source(copy: &FileActionCopy) -> Selector {
    Selector {
        path: copy.src.clone(),
        wildcard: copy.allow_wildcard && content::has_wildcard(&copy.src),
        follow_links: copy.follow_symlink,
        include: copy.include_patterns.clone(),
        exclude: copy.exclude_patterns.clone(),
        required: copy.required_paths.clone(),
    }
}

/// Leaves out plain paths below other plain paths, and sorts by path.
fn without_covered(selectors: Vec<Selector>) -> Vec<Selector> {
    let (plain, others): (Vec<_>, Vec<_>) = selectors.into_iter().partition(|s| !s.has_patterns());
    let mut all = Vec::new();
    for follow_links in [false, true] {
        let paths = plain.iter().filter(|s| s.follow_links == follow_links);
        let paths: Vec<String> = paths.map(|s| s.path.clone()).collect();
        let selector = |path| Selector {
            path,
            follow_links,
            ..Selector::default()
        };
        all.extend(content::outermost(&paths).into_iter().map(selector));
    }
    all.extend(others);
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// Returns which results the actions take, where that is not the usual: each the one before it.
fn indexes(actions: &[FileAction]) -> Vec<String> {
    let count = i64::try_from(actions.len()).unwrap_or(i64::MAX);
    let usual = (0..).zip(actions).all(|(at, action)| {
        let input = if at == 0 { 0 } else { count + at - 1 };
        let output = if at == count - 1 { 0 } else { NONE };
        action.input == input
            && matches!(action.secondary_input, NONE | 1)
            && action.output == output
    });
    if usual {
        return Vec::new();
    }
    let numbers = |action: &FileAction| {
        let FileAction {
            input,
            secondary_input,
            output,
            ..
        } = action;
        format!("[{input},{secondary_input},{output}]")
    };
    actions.iter().map(numbers).collect()
}

fn copy_json(copy: &FileActionCopy, src: &str) -> String {
    Object::new()
        .text("src", src)
        .text("dest", &copy.dest)
        .maybe("owner", copy.owner.as_ref().map(owner))
        .number("mode", copy.mode)
        .flag("followSymlink", copy.follow_symlink)
        .flag("dirCopyContents", copy.dir_copy_contents)
        .flag(
            "attemptUnpackDockerCompatibility",
            copy.attempt_unpack_docker_compatibility,
        )
        .flag("createDestPath", copy.create_dest_path)
        .flag("allowWildcard", copy.allow_wildcard)
        .flag("allowEmptyWildcard", copy.allow_empty_wildcard)
        .number("timestamp", copy.timestamp)
        .texts("include_patterns", &copy.include_patterns)
        .texts("exclude_patterns", &copy.exclude_patterns)
        .flag(
            "alwaysReplaceExistingDestPaths",
            copy.always_replace_existing_dest_paths,
        )
        .text("modeStr", &copy.mode_str)
        .texts("required_paths", &copy.required_paths)
        .end()
}

fn mkfile(file: &FileActionMkFile) -> String {
    Object::new()
        .text("path", &file.path)
        .number("mode", file.mode)
        .bytes("data", &file.data)
        .maybe("owner", file.owner.as_ref().map(owner))
        .number("timestamp", file.timestamp)
        .end()
}

fn mkdir(folder: &FileActionMkDir) -> String {
    Object::new()
        .text("path", &folder.path)
        .number("mode", folder.mode)
        .flag("makeParents", folder.make_parents)
        .maybe("owner", folder.owner.as_ref().map(owner))
        .number("timestamp", folder.timestamp)
        .end()
}

fn symlink(link: &FileActionSymlink) -> String {
    Object::new()
        .text("oldpath", &link.oldpath)
        .text("newpath", &link.newpath)
        .maybe("owner", link.owner.as_ref().map(owner))
        .number("timestamp", link.timestamp)
        .end()
}

fn rm(removed: &FileActionRm) -> String {
    Object::new()
        .text("path", &removed.path)
        .flag("allowNotFound", removed.allow_not_found)
        .flag("allowWildcard", removed.allow_wildcard)
        .end()
}

fn owner(owner: &ChownOpt) -> String {
    Object::new()
        .maybe("user", owner.user.as_ref().map(user))
        .maybe("group", owner.group.as_ref().map(user))
        .end()
}

fn user(user: &UserOpt) -> String {
    let value = match &user.user {
        Some(User::ByName(name)) => {
            let name = Object::new()
                .text("name", &name.name)
                .number("input", name.input);
            Object::new().raw("byName", &name.end())
        }
        Some(User::ById(id)) => Object::new().number("byId", *id),
        None => Object::new(),
    };
    Object::new().raw("User", &value.end()).end()
}

/// Returns the last part of a path, as Go's `path.Base` does.
fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let path = path.trim_end_matches('/');
    match path.rsplit('/').next() {
        Some(name) if !name.is_empty() => name,
        _ => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_go() {
        for (path, name) in [
            ("", "."),
            ("/", "/"),
            ("//", "/"),
            ("/a/b", "b"),
            ("/a/b/", "b"),
            ("*.txt", "*.txt"),
        ] {
            assert_eq!(base(path), name, "{path}");
        }
    }
}

//! Where the files are that say what a build is: the Dockerfile, and the list of what is left out of its context.

use std::path::Path;

use crate::build::context::inputs::Folders;
use crate::cache::keys::Plan;
use crate::explain::OwnFiles;

/// The folders of the context and of the Dockerfile, as BuildKit asks for them.
const CONTEXT: &str = "context";
const DOCKERFILE: &str = "dockerfile";

/// Finds them, by their paths in the context. A list that a Dockerfile has for itself comes before that of the context
/// (BuildKit `frontend/dockerui`).
pub(super) fn of(plan: &Plan, folders: &Folders) -> OwnFiles {
    let mut own = OwnFiles::default();
    let mut places = plan.vertices().iter().filter_map(|v| v.place.as_ref());
    let Some(file) = places.next().map(|place| &place.file) else {
        return own;
    };
    let folder = |name: &str| {
        let folder = folders.by_name.get(name)?;
        fs_err::canonicalize(folder).ok()
    };
    let Some(context) = folder(CONTEXT) else {
        // It comes from elsewhere, and the Dockerfile with it.
        own.dockerfile = Some(file.clone());
        return own;
    };
    let Some(beside) = folder(DOCKERFILE) else {
        return own;
    };
    let list = format!("{file}.dockerignore");
    let has_list = beside.join(&list).is_file();
    let inside = beside.strip_prefix(&context).ok();
    if has_list {
        // One outside the context is told by its name.
        own.ignore_file = path(inside.unwrap_or(Path::new("")), &list);
    }
    own.dockerfile = inside.map(|inside| path(inside, file));
    own
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::cache::keys::testing::{BASE, Maker, image};

    #[test]
    fn they_are_found_by_their_paths_in_the_context() {
        let mut maker = Maker::default();
        let base = maker.add("[1/1] FROM base", image(BASE), &[]);
        maker.at(&base, 1);
        let plan = Plan::of([&maker.end(&base)]);
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("app/docker");
        fs_err::create_dir_all(&folder).unwrap();
        let found = |folders: &[(&str, PathBuf)]| {
            let folders = folders.iter();
            let by_name: BTreeMap<_, _> =
                folders.map(|(n, p)| ((*n).to_owned(), p.clone())).collect();
            let folders = Folders {
                by_name,
                ..Folders::default()
            };
            let own = of(&plan, &folders);
            (own.dockerfile.unwrap_or_default(), own.ignore_file)
        };
        let pair = |file: &str, list: &str| (file.to_owned(), list.to_owned());
        let app = ("context", dir.path().join("app"));
        let inside = ("dockerfile", folder.clone());
        let usual = ".dockerignore";
        assert_eq!(found(&[]), pair("Dockerfile", usual));
        assert_eq!(found(std::slice::from_ref(&app)), pair("", usual));
        let same = ("dockerfile", dir.path().join("app/.././app"));
        assert_eq!(found(&[app.clone(), same]), pair("Dockerfile", usual));
        assert_eq!(
            found(&[app.clone(), inside.clone()]),
            pair("docker/Dockerfile", usual)
        );
        fs_err::write(folder.join("Dockerfile.dockerignore"), "").unwrap();
        let list = "docker/Dockerfile.dockerignore";
        assert_eq!(
            found(&[app, inside.clone()]),
            pair("docker/Dockerfile", list)
        );
        let elsewhere = ("context", dir.path().join("app/docker/.."));
        fs_err::create_dir(dir.path().join("other")).unwrap();
        assert_eq!(
            found(&[elsewhere, inside.clone()]),
            pair("docker/Dockerfile", list)
        );
        let outside = ("context", dir.path().join("other"));
        assert_eq!(
            found(&[outside, inside]),
            pair("", "Dockerfile.dockerignore")
        );
    }
}

//! What runs in the container of a mount: plain shell, and the image's own `tar`, GNU's or another one.

use crate::mounts::{END, RESTORING};

/// How a script ends where the image has no `tar`.
pub(super) const NO_TAR: u32 = 41;
/// How it ends where the mount was never restored to its end.
pub(super) const HALF: u32 = 42;
/// What the script says if the image has no `tar`.
pub(super) const NONE: &[u8] = b"none\n";
/// What it says if the mount is there.
pub(super) const HAVE: &[u8] = b"have\n";
/// What it says if it takes one.
pub(super) const WANT: &[u8] = b"want\n";

/// Writes the mount in this folder to standard output as a tar stream.
pub(super) fn save(folder: &str) -> String {
    format!(
        "cd {folder} || exit 1
command -v tar >/dev/null 2>&1 || exit {NO_TAR}
[ ! -e {RESTORING} ] || exit {HALF}
case \"$(tar --version 2>/dev/null)\" in
*'GNU tar'*) exec tar --create --file=- --format=posix --pax-option=delete=atime,delete=ctime --numeric-owner \
--xattrs --xattrs-include='*' . ;;
*) exec tar -cf - . ;;
esac"
    )
}

/// Says in one line whether the mount in this folder is there, or takes it from standard input. It is unpacked beside and then moved, so that a mount
/// is whole or has the folder [`RESTORING`] in it. The stream is read to its end whatever happens.
pub(super) fn restore(folder: &str) -> String {
    format!(
        "cd {folder} || {{ echo failed; exit 1; }}
command -v tar >/dev/null 2>&1 || {{ echo none; exit 0; }}
clear() {{ rm -rf ./* ./.[!.]* ./..?*; }}
if [ -e {RESTORING} ]; then clear; fi
if [ -n \"$(ls -A)\" ]; then echo have; exit 0; fi
mkdir {RESTORING} || {{ echo failed; exit 1; }}
echo want
case \"$(tar --version 2>/dev/null)\" in
*'GNU tar'*) tar -C {RESTORING} --extract --file=- --numeric-owner --same-owner --preserve-permissions \
--xattrs --xattrs-include='*' ;;
*) tar -C {RESTORING} -xf - ;;
esac
code=$?
cat >/dev/null
if [ $code != 0 ] || [ ! -e {RESTORING}/{END} ]; then clear; exit 1; fi
rm -f {RESTORING}/{END}
for file in {RESTORING}/* {RESTORING}/.[!.]* {RESTORING}/..?*; do
if [ -e \"$file\" ] || [ -L \"$file\" ]; then mv \"$file\" . || {{ clear; exit 1; }}; fi
done
rmdir {RESTORING} || {{ clear; exit 1; }}"
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
    use std::path::Path;
    use std::process::{Command, Output, Stdio};

    use fs_err as fs;

    use super::*;
    use crate::mounts::pack::pack;
    use crate::mounts::unpack::unpack;

    fn run(script: &str, input: &[u8]) -> Output {
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A script that wants nothing does not read it.
        let _written = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// The tar stream of a mount that is restored, from one that is saved.
    fn carried(folder: &Path) -> Vec<u8> {
        let saved = run(&save(folder.to_str().unwrap()), b"");
        assert!(saved.status.success(), "{saved:?}");
        let mut packs = std::collections::HashMap::new();
        let index = pack(saved.stdout.as_slice(), None, u64::MAX, &mut |pack| {
            packs.insert(pack.digest.to_string(), pack.bytes.to_vec());
            true
        });
        let mut tar = Vec::new();
        unpack(
            &index.unwrap(),
            &mut |pack| Ok(packs[&pack.digest].clone()),
            &mut tar,
            true,
        )
        .unwrap();
        tar
    }

    fn mount() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        for (name, content) in [
            ("a/b/file", "file"),
            (".hidden", "x"),
            ("..odd", "y"),
            ("-dash", "z"),
            ("two  words", ""),
        ] {
            fs::write(at(name), content).unwrap();
        }
        fs::hard_link(at("a/b/file"), at("hard")).unwrap();
        symlink("./..//nowhere", at("soft")).unwrap();
        fs::set_permissions(at("hard"), PermissionsExt::from_mode(0o4711)).unwrap();
        fs::set_permissions(at("a/b"), PermissionsExt::from_mode(0o2555)).unwrap();
        folder
    }

    #[test]
    fn a_mount_is_carried_over_whole() {
        let (from, to) = (mount(), tempfile::tempdir().unwrap());
        let tar = carried(from.path());
        let script = restore(to.path().to_str().unwrap());
        let restored = run(&script, &tar);
        assert!(
            restored.status.success() && restored.stdout == WANT,
            "{restored:?}"
        );
        assert_eq!(names(to.path()), names(from.path()));
        for name in ["a/b/file", "hard", "soft", "a/b", "-dash"] {
            let [old, new] =
                [&from, &to].map(|place| place.path().join(name).symlink_metadata().unwrap());
            assert_eq!(
                (old.mode(), old.nlink(), old.mtime()),
                (new.mode(), new.nlink(), new.mtime()),
                "{name}"
            );
        }
        let target = fs::read_link(to.path().join("soft")).unwrap();
        assert_eq!(target.to_str(), Some("./..//nowhere"));
        let again = run(&script, b"");
        assert!(again.status.success() && again.stdout == HAVE, "{again:?}");
    }

    #[test]
    fn a_stream_that_is_cut_off_leaves_nothing_and_half_a_mount_is_replaced() {
        let (from, to) = (mount(), tempfile::tempdir().unwrap());
        let tar = carried(from.path());
        let script = restore(to.path().to_str().unwrap());
        // At the end of an entry, too, where tar finds nothing wrong.
        for length in [0, 512, 1000, tar.len() - 2048] {
            let cut = run(&script, &tar[..length]);
            assert!(
                !cut.status.success() && cut.stdout == WANT,
                "{length} {cut:?}"
            );
            assert!(names(to.path()).is_empty(), "{length}");
        }
        fs::create_dir(to.path().join(RESTORING)).unwrap();
        fs::write(to.path().join("half"), "").unwrap();
        let half = run(&save(to.path().to_str().unwrap()), b"");
        assert_eq!(half.status.code(), i32::try_from(HALF).ok());
        assert!(run(&script, &tar).status.success());
        assert_eq!(names(to.path()), names(from.path()));
    }
}

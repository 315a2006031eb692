//! What runs in the container of a mount: plain shell, and the image's own `tar`, GNU's or another one.

use crate::mounts::{END, MOVING, RESTORING};

/// How a script ends where the image has no `tar`.
pub(super) const NO_TAR: u32 = 41;
/// How it ends where the mount was half restored. It has been emptied.
pub(super) const HALF: u32 = 42;
/// How it ends where somebody has put something in the mount while it was being restored.
pub(super) const OVERTAKEN: u32 = 43;
/// What the script says if the image has no `tar`.
pub(super) const NONE: &[u8] = b"none\n";
/// What it says if the mount is there.
pub(super) const HAVE: &[u8] = b"have\n";
/// What it says if it takes one.
pub(super) const WANT: &[u8] = b"want\n";
/// What it says if it takes one with sparse files.
pub(super) const WANT_SPARSE: &[u8] = b"want sparse\n";

/// How many blocks GNU tar reads and writes at once. The usual twenty are so few that most of the time goes into waking the
/// other end of the pipe.
const RECORD: u32 = 2048;

/// Removes all that is in the folder: with `find` there may be more than one command takes.
const CLEAR: &str = "clear() { find . ! -path . -prune -exec rm -rf {} + 2>/dev/null; \
                     for file in ./* ./.[!.]* ./..?*; do rm -rf \"$file\"; done; }";

/// Writes the mount in this folder to standard output as a tar stream.
pub(super) fn save(folder: &str) -> String {
    format!(
        "cd {folder} || exit 1
command -v tar >/dev/null 2>&1 || exit {NO_TAR}
{CLEAR}
if [ -e {MOVING} ]; then clear; exit {HALF}; fi
rm -rf {RESTORING}
case \"$(tar --version 2>/dev/null)\" in
*'GNU tar'*) exec tar --create --file=- --blocking-factor={RECORD} --format=posix --pax-option=delete=atime,delete=ctime --numeric-owner \
--xattrs --xattrs-include='*' . ;;
*) exec tar -cf - . ;;
esac"
    )
}

/// Says in one line whether the mount in this folder is there, or takes it from standard input. What a new mount `begins`
/// with is replaced. It is unpacked in the folder [`RESTORING`] beside what may come meanwhile, and put in place at the end,
/// when that is called [`MOVING`]: many files at a time where `find` can do it. The stream is read to its end whatever
/// happens.
pub(super) fn restore(folder: &str, begins: bool) -> String {
    let (is_there, others) = if begins {
        ("false", "[ \"$file\" = ./$to ] || rm -rf \"$file\"")
    } else {
        ("[ -n \"$(ls -A)\" ]", ":")
    };
    format!(
        "cd {folder} || {{ echo failed; exit 1; }}
command -v tar >/dev/null 2>&1 || {{ echo none; exit 0; }}
{CLEAR}
from={RESTORING}
to={MOVING}
if [ -e $to ]; then clear; fi
rm -rf $from
if {is_there}; then echo have; exit 0; fi
mkdir $from || {{ echo failed; exit 1; }}
before=$(ls -A)
case \"$(tar --version 2>/dev/null)\" in
*'GNU tar'*) echo want sparse
tar -C $from --extract --file=- --blocking-factor={RECORD} --numeric-owner --same-owner --preserve-permissions --xattrs --xattrs-include='*' ;;
*) echo want
tar -C $from -xf - ;;
esac
code=$?
cat >/dev/null
if [ $code != 0 ] || [ ! -e $from/{END} ]; then rm -rf $from; exit 1; fi
rm -f $from/{END}
if [ \"$(ls -A)\" != \"$before\" ]; then rm -rf $from; exit {OVERTAKEN}; fi
mv $from $to || {{ clear; exit 1; }}
for file in ./* ./.[!.]* ./..?*; do {others}; done
find $to ! -path $to -prune -exec sh -c 'mv \"$@\" .' sh {{}} + 2>/dev/null
for file in $to/* $to/.[!.]* $to/..?*; do
if [ -e \"$file\" ] || [ -L \"$file\" ]; then mv \"$file\" . || {{ clear; exit 1; }}; fi
done
rmdir $to || {{ clear; exit 1; }}"
    )
}

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};
    use std::io::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt, symlink};
    use std::path::Path;
    use std::process::{Command, Output, Stdio};

    use fs_err as fs;

    use super::*;
    use crate::mounts::pack::pack;
    use crate::mounts::unpack::{Form, unpack};

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

    fn names(folder: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<OsString> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    /// The tar stream of a mount that is restored, from one that is saved.
    fn carried(folder: &Path) -> Vec<u8> {
        let saved = run(&save(folder.to_str().unwrap()), b"");
        assert!(saved.status.success(), "{saved:?}");
        let mut packs = std::collections::HashMap::new();
        let index = pack(saved.stdout.as_slice(), None, u64::MAX, &mut |pack| {
            packs.insert(pack.digest, pack.bytes.to_vec());
            true
        });
        let mut tar = Vec::new();
        unpack(
            &index.unwrap(),
            &mut |pack| Ok(packs[&pack.digest].clone()),
            &mut tar,
            Form::ContainerSparse,
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
            ("new\nline\n", "n"),
        ] {
            fs::write(at(name), content).unwrap();
        }
        let all: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
        for (number, part) in all.chunks(100).enumerate() {
            let name = [number.to_string().as_bytes(), part].concat();
            fs::write(folder.path().join(OsStr::from_bytes(&name)), "").unwrap();
        }
        fs::hard_link(at("a/b/file"), at("hard")).unwrap();
        symlink("./..//nowhere", at("soft")).unwrap();
        fs::set_permissions(at("hard"), PermissionsExt::from_mode(0o4711)).unwrap();
        fs::set_permissions(at("a/b"), PermissionsExt::from_mode(0o2555)).unwrap();
        let sparse = fs::File::create(at("sparse")).unwrap();
        sparse.set_len(30 << 20).unwrap();
        sparse
            .file()
            .write_all_at(b"in the middle", 20 << 20)
            .unwrap();
        folder
    }

    const ATTRIBUTE: &str = "user.odd \n%=name";

    /// Gives a file an attribute, where its file system has those.
    fn set_attribute(file: &Path, value: &[u8]) -> bool {
        rustix::fs::setxattr(file, ATTRIBUTE, value, rustix::fs::XattrFlags::empty()).is_ok()
    }

    #[test]
    fn a_mount_is_carried_over_whole() {
        let (from, to) = (mount(), tempfile::tempdir().unwrap());
        let value: Vec<u8> = (0..=255).chain(*b"\n9 path=x\n").collect();
        let has_attributes = set_attribute(&from.path().join("hard"), &value);
        let tar = carried(from.path());
        let script = restore(to.path().to_str().unwrap(), false);
        let restored = run(&script, &tar);
        assert!(
            restored.status.success() && restored.stdout == WANT_SPARSE,
            "{restored:?}"
        );
        assert_eq!(names(to.path()), names(from.path()));
        for name in ["a/b/file", "hard", "soft", "a/b", "-dash", "sparse"] {
            let [old, new] =
                [&from, &to].map(|place| place.path().join(name).symlink_metadata().unwrap());
            assert_eq!(
                (
                    old.mode(),
                    old.nlink(),
                    old.mtime(),
                    old.mtime_nsec(),
                    old.len()
                ),
                (
                    new.mode(),
                    new.nlink(),
                    new.mtime(),
                    new.mtime_nsec(),
                    new.len()
                ),
                "{name}"
            );
        }
        let target = fs::read_link(to.path().join("soft")).unwrap();
        assert_eq!(target.to_str(), Some("./..//nowhere"));
        let [old, new] = [&from, &to].map(|place| fs::read(place.path().join("sparse")).unwrap());
        assert!(old == new);
        let disk = |place: &tempfile::TempDir| {
            place.path().join("sparse").metadata().unwrap().blocks() * 512
        };
        assert!(
            disk(&from) > 1 << 20 || disk(&to) < 2 << 20,
            "{}",
            disk(&to)
        );
        if has_attributes {
            let mut found = vec![0; 1000];
            let length = rustix::fs::getxattr(to.path().join("hard"), ATTRIBUTE, &mut found);
            assert_eq!(found[..length.unwrap()], value);
        }
        let again = run(&script, b"");
        assert!(again.status.success() && again.stdout == HAVE, "{again:?}");
    }

    #[test]
    fn a_stream_that_is_cut_off_leaves_nothing() {
        let (from, to) = (mount(), tempfile::tempdir().unwrap());
        let tar = carried(from.path());
        let script = restore(to.path().to_str().unwrap(), false);
        // At the end of an entry, too, where tar finds nothing wrong.
        for length in [0, 512, 1000, tar.len() - 2048] {
            let cut = run(&script, &tar[..length]);
            assert!(
                !cut.status.success() && cut.stdout == WANT_SPARSE,
                "{length} {cut:?}"
            );
            assert!(names(to.path()).is_empty(), "{length}");
        }
    }

    #[test]
    fn what_a_broken_restore_has_left_is_replaced() {
        let (from, to) = (mount(), tempfile::tempdir().unwrap());
        let tar = carried(from.path());
        let place = to.path().to_str().unwrap();
        for (left, beside) in [(RESTORING, None), (MOVING, None), (MOVING, Some("half"))] {
            fs::create_dir(to.path().join(left)).unwrap();
            fs::write(to.path().join(left).join("x"), "").unwrap();
            if let Some(name) = beside {
                fs::write(to.path().join(name), "").unwrap();
            }
            assert!(run(&restore(place, false), &tar).status.success());
            assert_eq!(names(to.path()), names(from.path()), "{left} {beside:?}");
            assert!(
                run(&format!("cd {place}; {CLEAR}; clear"), b"")
                    .status
                    .success()
            );
        }
        // What steps have made beside it stays, and is saved.
        fs::create_dir(to.path().join(RESTORING)).unwrap();
        fs::write(to.path().join("made"), "").unwrap();
        assert_eq!(run(&restore(place, false), &tar).stdout, HAVE);
        assert_eq!(names(to.path()), ["made"]);
        fs::create_dir(to.path().join(RESTORING)).unwrap();
        assert!(run(&save(place), b"").status.success());
        assert_eq!(names(to.path()), ["made"]);
        // Half of a mount is never saved, however many files it has.
        for number in 0..20_000 {
            fs::write(to.path().join(format!("{number:0120}")), "").unwrap();
        }
        fs::create_dir(to.path().join(MOVING)).unwrap();
        let half = run(&save(place), b"");
        assert_eq!(half.status.code(), i32::try_from(HALF).ok());
        assert!(names(to.path()).is_empty());
    }

    #[test]
    fn what_comes_meanwhile_stays_and_what_a_new_mount_begins_with_does_not() {
        let (from, to) = (mount(), tempfile::tempdir().unwrap());
        let tar = carried(from.path());
        fs::write(to.path().join("base"), "").unwrap();
        fs::write(to.path().join(".base"), "").unwrap();
        let restored = run(&restore(to.path().to_str().unwrap(), true), &tar);
        assert!(restored.status.success(), "{restored:?}");
        assert_eq!(names(to.path()), names(from.path()));
        for begins in [false, true] {
            let to = tempfile::tempdir().unwrap();
            let script = restore(to.path().to_str().unwrap(), begins);
            // Before the stream is read.
            let script = script.replace("code=$?", "code=$?; touch meanwhile");
            let overtaken = run(&script, &tar);
            assert_eq!(overtaken.status.code(), i32::try_from(OVERTAKEN).ok());
            assert_eq!(names(to.path()), ["meanwhile"]);
        }
    }
}

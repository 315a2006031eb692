use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A plugin in a folder that answers with this metadata.
    fn plugin(&self, dir: &str, metadata: &str) {
        self.script(dir, &format!("echo '{metadata}'"));
    }

    /// A program in the place of a plugin that notes that it was asked, and does as it is told.
    fn script(&self, dir: &str, does: &str) {
        fs_err::create_dir_all(self.path(dir)).unwrap();
        let script = format!(
            "#!/bin/sh\necho \"$0 $1 ${GUARD}\" >> {}\n{does}\n",
            self.path("asked").display()
        );
        let file = self.path(dir).join("docker-buildx");
        fs_err::write(&file, script).unwrap();
        fs_err::set_permissions(file, Permissions::from_mode(0o755)).unwrap();
    }

    fn asked(&self) -> usize {
        let text = fs_err::read_to_string(self.path("asked")).unwrap_or_default();
        assert!(
            text.lines()
                .all(|line| line.ends_with(" docker-cli-plugin-metadata 1"))
        );
        text.lines().count()
    }

    fn find(&self, dirs: &[&str]) -> Option<Original> {
        self.search(dirs).run().unwrap()
    }

    fn search(&self, dirs: &[&str]) -> Search {
        let dirs: Vec<String> = dirs
            .iter()
            .map(|dir| self.path(dir).display().to_string())
            .collect();
        let (own, memory) = (self.path("own"), self.path("memory/x.json"));
        Search::plugin(&own, &dirs, &self.path("config"), &memory)
    }
}

fn real(version: &str) -> String {
    format!(r#"{{"SchemaVersion":"0.1.0","Vendor":"Docker Inc.","Version":"{version}"}}"#)
}

#[test]
fn the_first_other_program_is_found() {
    let machine = Machine::new();
    let own = Metadata::own();
    fs_err::write(machine.path("own"), "").unwrap();
    fs_err::create_dir(machine.path("a")).unwrap();
    symlink(machine.path("own"), machine.path("a/docker-buildx")).unwrap();
    machine.plugin("b", &serde_json::to_string(&own).unwrap());
    machine.plugin("c", "not a plugin");
    machine.plugin("d", &real(""));
    machine.plugin("config/cli-plugins", &real("v0.29.1"));
    let dirs = ["a", "none", "b", "c"];
    let found = machine.find(&dirs).unwrap();
    assert_eq!(found.path, machine.path("config/cli-plugins/docker-buildx"));
    assert_eq!(found.version, "v0.29.1");
    assert_eq!(machine.find(&["a", "d"]).unwrap().version, "");
    fs_err::remove_dir_all(machine.path("config")).unwrap();
    let found = machine.find(&dirs);
    let on_this_machine = |found: &Original| found.path.starts_with("/usr");
    assert!(found.as_ref().is_none_or(on_this_machine), "{found:?}");
}

#[test]
fn a_program_is_asked_once_and_again_when_it_changes() {
    let machine = Machine::new();
    machine.plugin("a", &real("v1"));
    for _ in 0..3 {
        assert_eq!(machine.find(&["a"]).unwrap().version, "v1");
    }
    assert_eq!(machine.asked(), 1);
    machine.plugin("a", &real("v1.2"));
    assert_eq!(machine.find(&["a"]).unwrap().version, "v1.2");
    assert_eq!(machine.asked(), 2);
    fs_err::write(machine.path("memory/x.json"), "broken").unwrap();
    assert_eq!(machine.find(&["a"]).unwrap().version, "v1.2");
    assert_eq!(machine.asked(), 3);
}

#[test]
fn what_cannot_be_remembered_is_asked_each_time() {
    let machine = Machine::new();
    machine.plugin("a", &real("v1"));
    fs_err::write(machine.path("memory"), "a file in the folder's place").unwrap();
    for asked in 1..3 {
        assert_eq!(machine.find(&["a"]).unwrap().version, "v1");
        assert_eq!(machine.asked(), asked);
    }
}

#[test]
fn the_stand_alone_program_is_looked_for_in_the_path() {
    let machine = Machine::new();
    machine.plugin("bin", &real("v2"));
    fs_err::rename(
        machine.path("bin/docker-buildx"),
        machine.path("bin/buildx"),
    )
    .unwrap();
    let path = std::env::join_paths([machine.path("x"), machine.path("bin")]).unwrap();
    let memory = machine.path("m");
    let found = Search::stand_alone(&machine.path("own"), &path, &memory).run();
    assert_eq!(found.unwrap().unwrap().path, machine.path("bin/buildx"));
}

#[test]
fn a_program_that_cannot_be_run_is_an_error() {
    let machine = Machine::new();
    let original = Original {
        path: machine.path("none"),
        version: String::new(),
    };
    let error = original.become_it(&[]);
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

/// A wrapper that waits for something, and has started something that waits, too.
#[test]
fn a_program_that_does_not_answer_is_ended_and_left_in_peace_for_a_while() {
    let machine = Machine::new();
    machine.script("a", "sleep 600 & sleep 600");
    let mut search = machine.search(&["a"]);
    search.limit = Duration::from_millis(300);
    let silent = search.run().unwrap_err();
    assert_eq!(silent.path, machine.path("a/docker-buildx"));
    assert!(
        silent
            .hint()
            .contains("a/docker-buildx docker-cli-plugin-metadata"),
        "{}",
        silent.hint()
    );
    assert_eq!(search.run().unwrap_err(), silent);
    assert_eq!(machine.asked(), 1);

    // Another one that answers is found behind it, and so is itself, once it is mended.
    machine.plugin("b", &real("v2"));
    assert_eq!(machine.find(&["a", "b"]).unwrap().version, "v2");
    machine.plugin("a", &real("v1"));
    assert_eq!(machine.find(&["a", "b"]).unwrap().version, "v1");
}

#[test]
fn a_program_that_was_silent_is_asked_again_after_the_rest() {
    let machine = Machine::new();
    machine.plugin("a", &real("v1"));
    let search = machine.search(&["a"]);
    let path = machine.path("a/docker-buildx");
    let now = since_1970(SystemTime::now()).as_secs();
    // Just over, and set by a clock that was wrong.
    for (until, is_silent) in [(now - 1, false), (now + 30, true), (now + 100_000, false)] {
        let entry = Remembered {
            stamp: stamp(&path).unwrap(),
            said: Said::SilentUntil(until),
        };
        search
            .remember(&BTreeMap::from([(path.clone(), entry)]))
            .unwrap();
        assert_eq!(search.run().is_err(), is_silent, "{until} at {now}");
    }
}

#[test]
fn what_is_said_without_end_is_not_read_to_the_end() {
    let machine = Machine::new();
    machine.script("a", "exec yes");
    let mut search = machine.search(&["a"]);
    search.limit = Duration::from_secs(20);
    assert_eq!(search.run(), Ok(None));
}

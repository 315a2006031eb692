use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn alias(&self) -> Alias {
        Alias::new(self.0.path(), &self.path("config.json"))
    }

    fn program(&self) -> PathBuf {
        let program = self.path("docker-cachex");
        fs_err::write(&program, "").unwrap();
        program
    }

    /// All that is there, with the text of the configuration.
    fn seen(&self) -> (Vec<PathBuf>, Option<String>) {
        let mut all: Vec<_> = fs_err::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        all.sort();
        (all, fs_err::read_to_string(self.path("config.json")).ok())
    }
}

#[test]
fn off_takes_back_what_on_has_done() {
    for config in [
        None,
        Some(""),
        Some("\n"),
        Some("{}"),
        Some("{\n\t\"auths\": {}\n}"),
    ] {
        let home = Home::new();
        let program = home.program();
        if let Some(config) = config {
            fs_err::write(home.path("config.json"), config).unwrap();
        }
        let before = home.seen();
        let alias = home.alias();
        assert_eq!(alias.status().unwrap(), Status::Off);
        assert!(alias.on(&program).unwrap());
        assert!(!alias.on(&program).unwrap());
        assert_eq!(
            alias.status().unwrap(),
            Status::On(program.canonicalize().unwrap())
        );
        fs_err::write(memory(home.0.path()), "{}").unwrap();
        assert!(alias.off().unwrap());
        assert_eq!(home.seen(), before, "{config:?}");
        assert!(!alias.off().unwrap());
        assert_eq!(home.seen(), before, "{config:?}");
    }
}

#[test]
fn mode_and_link_of_the_configuration_stay() {
    let home = Home::new();
    let program = home.program();
    let real = home.path("dotfiles.json");
    fs_err::write(&real, "{\"a\":1}").unwrap();
    fs_err::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
    symlink("dotfiles.json", home.path("config.json")).unwrap();
    home.alias().on(&program).unwrap();
    assert!(
        fs_err::read_to_string(&real)
            .unwrap()
            .contains("cachex/cli-plugins")
    );
    assert!(home.path("config.json").is_symlink());
    assert_eq!(
        fs_err::metadata(&real).unwrap().permissions().mode() & 0o777,
        0o640
    );
    home.alias().off().unwrap();
    assert_eq!(fs_err::read_to_string(&real).unwrap(), "{\"a\":1}");
    fs_err::remove_file(home.path("config.json")).unwrap();
    home.alias().on(&program).unwrap();
    let mode = fs_err::metadata(home.path("config.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_broken_configuration_is_left_alone() {
    let home = Home::new();
    let program = home.program();
    fs_err::write(home.path("config.json"), "{\"auths\":").unwrap();
    let before = home.seen();
    let error = home.alias().on(&program).unwrap_err();
    assert!(crate::error::chain(&error).contains("config.json is not changed: it is not JSON"));
    assert_eq!(home.seen(), before);
}

#[test]
fn the_folder_comes_before_others_and_a_lost_link_is_seen() {
    let home = Home::new();
    let program = home.program();
    let alias = home.alias();
    alias.on(&program).unwrap();
    let other = home.path("other");
    fs_err::create_dir(&other).unwrap();
    fs_err::write(other.join("docker-buildx"), "").unwrap();
    let own = alias.dir_text().unwrap();
    let list = serde_json::json!({"cliPluginsExtraDirs": [other, own]}).to_string();
    fs_err::write(home.path("config.json"), &list).unwrap();
    assert_eq!(
        alias.status().unwrap(),
        Status::Behind(other.join("docker-buildx"))
    );
    assert!(alias.on(&program).unwrap());
    assert!(matches!(alias.status().unwrap(), Status::On(_)));
    alias.off().unwrap();
    let left = serde_json::json!({"cliPluginsExtraDirs": [other]}).to_string();
    assert_eq!(home.seen().1, Some(left));
    alias.on(&program).unwrap();
    fs_err::remove_file(&program).unwrap();
    assert_eq!(alias.status().unwrap(), Status::Broken);
}

/// A link into a folder for settings whose file is not there yet.
#[test]
fn a_link_that_leads_to_no_file_stays_one() {
    let home = Home::new();
    let program = home.program();
    fs_err::create_dir(home.path("dotfiles")).unwrap();
    symlink("dotfiles/docker.json", home.path("config.json")).unwrap();
    let real = home.path("dotfiles/docker.json");
    assert!(home.alias().on(&program).unwrap());
    assert!(matches!(home.alias().status().unwrap(), Status::On(_)));
    assert!(home.path("config.json").is_symlink());
    assert!(real.is_file());
    assert!(home.alias().off().unwrap());
    assert!(home.path("config.json").is_symlink());
    assert!(!real.exists());

    fs_err::remove_file(home.path("config.json")).unwrap();
    symlink("config.json", home.path("config.json")).unwrap();
    let error = home.alias().on(&program).unwrap_err().to_string();
    assert!(error.contains("too many links"), "{error}");
    assert!(!home.path("cachex").exists());
}

/// A configuration that this user cannot write, such as one that the system's own manager makes. Nobody can make a file in
/// a folder that is not there, not even root.
#[test]
fn what_cannot_be_switched_on_leaves_nothing() {
    let home = Home::new();
    let program = home.program();
    symlink("not-there/config.json", home.path("config.json")).unwrap();
    let before = home.seen();
    let error = home.alias().on(&program).unwrap_err().to_string();
    assert!(error.contains("not-there/config.json"), "{error}");
    assert_eq!(home.seen(), before);

    // The same where the link, the note or the last step fails.
    fs_err::remove_file(home.path("config.json")).unwrap();
    for taken in [
        "cachex",
        "cachex/cli-plugins/docker-buildx/x",
        "cachex/alias.json/x",
    ] {
        let taken = home.path(taken);
        fs_err::create_dir_all(taken.parent().unwrap()).unwrap();
        fs_err::write(&taken, "in the way").unwrap();
        let before = home.seen();
        home.alias().on(&program).unwrap_err();
        assert_eq!(home.seen(), before, "{}", taken.display());
        let own = home.path("cachex/cli-plugins/docker-buildx");
        assert!(!own.is_symlink(), "{}", taken.display());
        let has_own_folder = own.parent().unwrap().exists();
        assert_eq!(has_own_folder, taken.starts_with(own.parent().unwrap()));
        assert!(taken.exists());
        let cachex = home.path("cachex");
        let _ = fs_err::remove_dir_all(&cachex);
        let _ = fs_err::remove_file(&cachex);
    }

    // A folder of docker's that was made for the alias goes, too.
    let dir = home.path("new/docker");
    let alias = Alias::new(&dir, &dir.join("config.json"));
    alias.on(&program).unwrap();
    alias.off().unwrap();
    assert!(!dir.exists());
    assert!(!alias.off().unwrap());
    assert!(!dir.exists());
}

#[test]
fn many_at_once_do_not_get_in_each_other_s_way() {
    let home = Home::new();
    let program = home.program();
    let config = "{\n\t\"auths\": {},\n\t\"cliPluginsExtraDirs\": [\"/opt\"]\n}\n";
    fs_err::write(home.path("config.json"), config).unwrap();
    let before = home.seen();
    for _ in 0..5 {
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (home, program) = (&home, &program);
                scope.spawn(move || {
                    for turn in 0..10 {
                        let done = if (number + turn) % 2 == 0 {
                            home.alias().on(program)
                        } else {
                            home.alias().off()
                        };
                        done.unwrap();
                    }
                });
            }
        });
        home.alias().on(&program).unwrap();
        let now = fs_err::read_to_string(home.path("config.json")).unwrap();
        assert_eq!(now.matches("cachex/cli-plugins").count(), 1, "{now}");
        home.alias().off().unwrap();
        assert_eq!(home.seen(), before);
    }
}

#[test]
fn a_damaged_note_is_none() {
    let home = Home::new();
    let program = home.program();
    fs_err::write(home.path("config.json"), "{\"auths\": {}}").unwrap();
    let before = home.seen();
    home.alias().on(&program).unwrap();
    fs_err::write(home.path("cachex/alias.json"), "{\"before\":").unwrap();
    assert!(home.alias().off().unwrap());
    assert_eq!(home.seen(), before);
}

#[test]
fn a_lock_that_another_process_keeps_is_named_with_a_way_out() {
    let home = Home::new();
    let alias = home.alias();
    let kept = alias.lock(Duration::ZERO).unwrap();
    let error = alias.lock(Duration::ZERO).unwrap_err();
    let file = home.path(".cachex-alias.lock");
    assert_eq!(
        error.to_string(),
        format!(
            "another process is changing the alias, and has kept {} locked for 10 seconds",
            file.display()
        )
    );
    assert!(error.hint().unwrap().contains("fuser "));
    drop(kept);
    assert!(!file.exists());
    drop(alias.lock(Duration::ZERO).unwrap());
}

//! Seeds of token authorities, kept in the folder of the docker config file and shared with buildx.
//!
//! With the same seed the next build proves to be the same user, and the daemon goes on with the
//! tokens that it has; without, each build asks for its own. Format and lock are those of BuildKit's
//! client (`session/auth/authprovider/tokenseed.go`).

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use zeroize::Zeroizing;

const FILE: &str = ".token_seed";
const LOCK: &str = ".token_seed.lock";
const SIZE: usize = 16;

pub(super) type Seed = Zeroizing<Vec<u8>>;

/// Creates a seed that nobody knows.
pub(super) fn random() -> Seed {
    Zeroizing::new(rand::random::<[u8; SIZE]>().to_vec())
}

/// Returns the seed for a host, made and written down where there is none yet. A folder that cannot
/// be used gives a seed for this session only.
pub(super) fn load(folder: &Path, host: &str) -> Seed {
    try_load(folder, host).unwrap_or_else(|error| {
        tracing::debug!(%error, "no seed of token authorities is kept");
        random()
    })
}

fn try_load(folder: &Path, host: &str) -> io::Result<Seed> {
    fs_err::create_dir_all(folder)?;
    let lock = fs_err::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(LOCK))?;
    lock.file().lock()?;
    let path = folder.join(FILE);
    let text = match fs_err::read(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Zeroizing::default(),
        Err(error) => return Err(error),
    };
    // A damaged file, as a crash may leave it, is started afresh, as BuildKit's client does.
    let mut all: BTreeMap<String, Value> = serde_json::from_slice(&text).unwrap_or_default();
    let known = all
        .get(host)
        .and_then(|entry| entry.get("Seed")?.as_str())
        .and_then(|text| STANDARD.decode(text).ok())
        .filter(|seed| !seed.is_empty());
    if let Some(seed) = known {
        return Ok(Zeroizing::new(seed));
    }
    let seed = random();
    let entry = serde_json::json!({ "Seed": STANDARD.encode(&*seed) });
    all.insert(host.to_owned(), entry);
    // A temporary file has the mode 0600.
    let mut file = tempfile::Builder::new()
        .prefix(".token_seed-")
        .tempfile_in(folder)?;
    serde_json::to_writer_pretty(&mut file, &all)?;
    file.flush()?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn seeds_stay_and_differ_by_host() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("docker");
        let seed = load(&folder, "a");
        assert_eq!(seed.len(), SIZE);
        assert_eq!(seed, load(&folder, "a"));
        assert_ne!(seed, load(&folder, "b"));
        assert_eq!(seed, load(&folder, "a"));
        let mode = fs_err::metadata(folder.join(FILE)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }

    #[test]
    fn seed_of_buildx_is_taken_and_its_file_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let text = r#"{"a": {"Seed": "AAECAwQFBgcICQoLDA0ODw=="}, "z": {"Seed": "", "More": 1}}"#;
        fs_err::write(&path, text).unwrap();
        assert_eq!(*load(dir.path(), "a"), (0..16).collect::<Vec<u8>>());
        assert_eq!(fs_err::read_to_string(&path).unwrap(), text);
        load(dir.path(), "new");
        let all: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
        assert_eq!(all["a"]["Seed"], "AAECAwQFBgcICQoLDA0ODw==");
        assert_eq!(all["z"]["More"], 1);
        assert!(all["new"]["Seed"].is_string());
    }

    #[test]
    fn folder_that_cannot_be_used_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let blocker = dir.path().join("file");
        fs_err::write(&blocker, "").unwrap();
        let folder = blocker.join("docker");
        assert_ne!(load(&folder, "a"), load(&folder, "a"));
        fs_err::write(dir.path().join(FILE), "damaged").unwrap();
        assert_eq!(load(dir.path(), "a"), load(dir.path(), "a"));
    }
}

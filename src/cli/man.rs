//! The hidden command `man`: writes the manual pages, for packages.

use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;

use super::Context;
use crate::error::CommandError;

/// Write the manual pages into a folder
#[derive(Debug, Clone, clap::Args)]
pub struct ManArgs {
    /// The folder
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    dir: PathBuf,
}

/// Writes one page for the program and one for each command.
///
/// # Errors
///
/// Fails if a page cannot be written.
pub fn run(args: &ManArgs, ctx: &Context) -> Result<(), CommandError> {
    let dir = ctx.env.current_dir().join(&args.dir);
    fs_err::create_dir_all(&dir)?;
    let mut root = super::command();
    root.build();
    page(&root, "docker-cachex", &dir)
}

fn page(command: &Command, name: &str, dir: &Path) -> Result<(), CommandError> {
    // The page is named as a page can be looked up; its text calls the command as one types it.
    let titled = command.clone().display_name(name).name(name.to_owned());
    let man = Man::new(titled).source(format!("docker-cachex {}", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    man.render(&mut text)?;
    fs_err::write(dir.join(format!("{name}.1")), text)?;
    let inner = command.get_subcommands();
    for inner in inner.filter(|inner| !inner.is_hide_set() && inner.get_name() != "help") {
        page(inner, &format!("{name}-{}", inner.get_name()), dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_ascii_as_troff_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut root = crate::cli::command();
        root.build();
        page(&root, "docker-cachex", folder.path()).unwrap();
        let mut pages = 0;
        for entry in fs_err::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let text = fs_err::read_to_string(&path).unwrap();
            let odd: Vec<&str> = text.lines().filter(|line| !line.is_ascii()).collect();
            assert!(odd.is_empty(), "{}: {odd:?}", path.display());
            pages += 1;
        }
        assert!(pages > 20, "{pages} pages");
    }
}

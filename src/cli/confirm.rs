//! Asking the user before something is removed.

use std::io;

use tokio::io::AsyncBufReadExt as _;

use crate::ui::Ui;

/// Asks on standard output, as docker does. Anything but `y` is no, and so is no answer.
///
/// # Errors
///
/// Fails if standard output is closed.
pub(super) async fn confirmed(ui: &Ui, question: &str) -> io::Result<bool> {
    ui.text(&format!("{question} [y/N] "))?;
    let mut answer = String::new();
    let read = tokio::io::BufReader::new(tokio::io::stdin())
        .read_line(&mut answer)
        .await;
    let answer = answer.trim_end_matches(['\r', '\n']);
    Ok(read.is_ok() && answer.eq_ignore_ascii_case("y"))
}

//! Shows the boot of a builder's nodes as steps of the progress display.

use std::collections::HashMap;
use std::io;

use crate::builder::{BootEvent, Builder, BuilderError};
use crate::error::CommandError;
use crate::progress::{Mode, Progress, RenderOptions, Step, tty};

use super::Context;

const TITLE: &str = "[internal] booting buildkit";

/// The steps of the nodes that are booting.
#[derive(Debug)]
pub struct BootProgress<'a> {
    progress: &'a Progress,
    several: bool,
    steps: HashMap<String, Step>,
}

impl<'a> BootProgress<'a> {
    /// Shows the boot of one node, or of several: then each step has the node's name.
    pub fn new(progress: &'a Progress, several: bool) -> Self {
        Self {
            progress,
            several,
            steps: HashMap::new(),
        }
    }

    /// Shows one event.
    pub fn event(&mut self, event: BootEvent) {
        match event {
            BootEvent::Begin { node } => {
                let title = if self.several {
                    TITLE.replacen('[', &format!("[{node} "), 1)
                } else {
                    TITLE.to_owned()
                };
                self.steps.insert(node, self.progress.sender().step(&title));
            }
            BootEvent::StepBegin { node, step: part } => {
                if let Some(step) = self.steps.get(&node) {
                    step.progress(&part, 0, 0);
                }
            }
            BootEvent::StepEnd {
                node, step: part, ..
            } => {
                if let Some(step) = self.steps.get(&node) {
                    step.part_done(&part);
                }
            }
            BootEvent::End { node, ok, .. } => match self.steps.remove(&node) {
                Some(step) if ok => step.done(),
                Some(step) => step.fail(&"the node did not boot"),
                None => {}
            },
        }
    }
}

/// Boots all nodes of a builder and shows how.
///
/// # Errors
///
/// Fails if a node does not boot.
pub async fn boot(builder: &Builder, ctx: &Context) -> Result<(), CommandError> {
    let mut options = RenderOptions::new(io::stderr());
    options.is_terminal = ctx.ui.stderr_is_terminal();
    let mode = if options.is_terminal {
        Mode::Tty
    } else {
        Mode::Plain
    };
    options.size = Box::new(tty::error_size);
    let progress = Progress::start(mode, options)?;
    let mut shown = BootProgress::new(&progress, builder.nodes().len() > 1);
    let booted: Result<bool, BuilderError> = builder.boot(&mut |event| shown.event(event)).await;
    drop(shown);
    progress.finish().await;
    booted?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(data);
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn boot_is_a_step_with_parts() {
        let written = Written::default();
        let progress = Progress::start(Mode::Plain, RenderOptions::new(written.clone())).unwrap();
        let mut shown = BootProgress::new(&progress, true);
        let (node, elapsed, ok) = ("foo0".to_owned(), Duration::ZERO, true);
        let step = "pulling image x".to_owned();
        for event in [
            BootEvent::Begin { node: node.clone() },
            BootEvent::StepBegin {
                node: node.clone(),
                step: step.clone(),
            },
            BootEvent::StepEnd {
                node: node.clone(),
                step,
                elapsed,
                ok,
            },
            BootEvent::End { node, elapsed, ok },
        ] {
            shown.event(event);
        }
        drop(shown);
        progress.finish().await;
        let text = String::from_utf8(written.0.lock().clone()).unwrap();
        assert!(
            text.contains("#1 [foo0 internal] booting buildkit\n"),
            "{text}"
        );
        assert!(text.contains("#1 pulling image x"), "{text}");
        assert!(text.contains("#1 DONE"), "{text}");
    }
}

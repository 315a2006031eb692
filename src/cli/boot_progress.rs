//! Prints the boot of builders as `BuildKit`'s plain progress prints it.

use crate::builder::BootEvent;
use crate::ui::Ui;

const TITLE: &str = "[internal] booting buildkit";

/// Numbers the nodes and prints their steps to standard error.
#[derive(Debug)]
pub struct BootProgress {
    ui: Ui,
    several: bool,
    nodes: Vec<String>,
}

impl BootProgress {
    /// Prints the boot of one node, or of several: then each line has the node's name.
    pub fn new(ui: &Ui, several: bool) -> Self {
        Self {
            ui: ui.clone(),
            several,
            nodes: Vec::new(),
        }
    }

    /// Prints an event.
    pub fn print(&mut self, event: &BootEvent) {
        let line = self.line(event);
        self.ui.status(&line);
    }

    fn line(&mut self, event: &BootEvent) -> String {
        let node = match event {
            BootEvent::Begin { node }
            | BootEvent::StepBegin { node, .. }
            | BootEvent::StepEnd { node, .. }
            | BootEvent::End { node, .. } => node,
        };
        let known = self.nodes.iter().position(|n| n == node);
        let number = 1 + known.unwrap_or_else(|| {
            self.nodes.push(node.clone());
            self.nodes.len() - 1
        });
        match event {
            BootEvent::Begin { .. } if self.several => {
                format!("#{number} {}", TITLE.replacen('[', &format!("[{node} "), 1))
            }
            BootEvent::Begin { .. } => format!("#{number} {TITLE}"),
            BootEvent::StepBegin { step, .. } => format!("#{number} {step}"),
            BootEvent::StepEnd {
                step, elapsed, ok, ..
            } => {
                let end = if *ok { "done" } else { "error" };
                format!("#{number} {step} {:.1}s {end}", elapsed.as_secs_f64())
            }
            BootEvent::End { elapsed, ok, .. } => {
                let end = if *ok { "DONE" } else { "ERROR" };
                format!("#{number} {end} {:.1}s\n", elapsed.as_secs_f64())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn lines_are_those_of_the_plain_progress() {
        let node = || "foo0".to_owned();
        let mut progress = BootProgress::new(&Ui::from_process(), false);
        let step = "pulling image x".to_owned();
        let elapsed = Duration::from_millis(1240);
        let lines = [
            BootEvent::Begin { node: node() },
            BootEvent::StepBegin {
                node: node(),
                step: step.clone(),
            },
            BootEvent::StepEnd {
                node: node(),
                step,
                elapsed,
                ok: true,
            },
            BootEvent::End {
                node: node(),
                elapsed,
                ok: true,
            },
        ]
        .map(|event| progress.line(&event));
        assert_eq!(
            lines,
            [
                "#1 [internal] booting buildkit",
                "#1 pulling image x",
                "#1 pulling image x 1.2s done",
                "#1 DONE 1.2s\n"
            ]
        );
        let mut several = BootProgress::new(&Ui::from_process(), true);
        several.line(&BootEvent::Begin { node: node() });
        let second = several.line(&BootEvent::Begin {
            node: "foo1".to_owned(),
        });
        assert_eq!(second, "#2 [foo1 internal] booting buildkit");
    }
}

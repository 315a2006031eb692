//! The block with the last log lines of a step that failed (BuildKit `printErrorLogs`).

use super::model::FailedStep;
use crate::text::foreign;

const RULE: &str = "------";

/// Returns the block: a rule, ` > name:`, the log lines, a rule. With `terminal`, control
/// characters other than colours are left out.
pub fn block(step: &FailedStep, terminal: bool) -> Vec<u8> {
    let mut out = format!("{RULE}\n > ").into_bytes();
    if terminal {
        out.extend_from_slice(foreign::lines(&step.name).as_bytes());
    } else {
        out.extend_from_slice(step.name.as_bytes());
    }
    out.extend_from_slice(b":\n");
    for line in &step.logs {
        if terminal {
            let line = foreign::log(line);
            out.extend_from_slice(line.trim_end_matches('\r').as_bytes());
            if line.contains('\u{1b}') {
                // A colour ends with its line.
                out.extend_from_slice(b"\x1b[0m");
            }
        } else {
            out.extend_from_slice(line);
        }
        out.push(b'\n');
    }
    out.extend_from_slice(RULE.as_bytes());
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_has_the_step_and_its_lines() {
        let step = FailedStep {
            digest: "sha256:a".into(),
            name: "[2/3] RUN make".into(),
            error: "exit code: 2".into(),
            logs: vec![
                b"0.100 \x1b[31mtext\x1b[2J\r".to_vec(),
                b"0.2 x\xff".to_vec(),
            ],
            dropped: 0,
        };
        assert_eq!(
            block(&step, false),
            b"------\n > [2/3] RUN make:\n0.100 \x1b[31mtext\x1b[2J\r\n0.2 x\xff\n------\n"
        );
        assert_eq!(
            String::from_utf8(block(&step, true)).unwrap(),
            "------\n > [2/3] RUN make:\n0.100 \u{1b}[31mtext\u{1b}[0m\n0.2 x\u{fffd}\n------\n"
        );
    }
}

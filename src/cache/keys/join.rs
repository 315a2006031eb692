//! Keys of merges and differences (BuildKit `solver/llbsolver/ops/{merge,diff}.go`): `COPY --link`
//! makes a merge.

use bollard_buildkit_proto::pb::{DiffOp, MergeOp};

use super::go_json::Object;
use super::{InputRule, StepKey, Unknown};
use crate::digest::Digest;

/// Stands for no input.
const NONE: i64 = -1;

/// Returns the key of a merge.
pub(super) fn merge(merge: &MergeOp) -> StepKey {
    let inputs: Vec<String> = merge.inputs.iter().map(|i| input(i.input)).collect();
    let op = Object::new().list("inputs", &inputs).end();
    step("buildkit.merge.v0", "Merge", &op, merge.inputs.len())
}

/// Returns the key of a difference.
pub(super) fn diff(diff: &DiffOp) -> Result<StepKey, Unknown> {
    let missing = Unknown::Invalid("a side of a difference is missing");
    let (Some(lower), Some(upper)) = (&diff.lower, &diff.upper) else {
        return Err(missing);
    };
    let op = Object::new()
        .raw("lower", &input(lower.input))
        .raw("upper", &input(upper.input))
        .end();
    let inputs = [lower.input, upper.input];
    let inputs = inputs.iter().filter(|input| **input != NONE).count();
    Ok(step("buildkit.diff.v0", "Diff", &op, inputs))
}

fn input(number: i64) -> String {
    Object::new().number("input", number).end()
}

fn step(kind: &str, field: &str, op: &str, inputs: usize) -> StepKey {
    let json = Object::new().text("Type", kind).raw(field, op).end();
    StepKey {
        digests: vec![Digest::of(json.as_bytes())],
        inputs: vec![InputRule::default(); inputs],
    }
}

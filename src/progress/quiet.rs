//! The display that prints nothing.

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;

use super::Display;
use super::model::Model;
use super::time::Time;

/// Prints nothing.
#[derive(Debug)]
pub struct Quiet;

impl Display for Quiet {
    fn status(&mut self, _: &mut Model, _: &StatusResponse, _: Time, _: &mut Vec<u8>) {}

    fn tick(&mut self, _: &mut Model, _: Time, _: &mut Vec<u8>) {}

    fn end(&mut self, _: &mut Model, _: Time, _: &mut Vec<u8>) {}
}

//! What a report is made of.

use super::known::Known;
use super::model::Step;
use crate::progress::model::Model;
use crate::progress::time::Time;

/// What is known of a build as a whole.
#[derive(Debug)]
pub struct BuildFacts {
    /// Version of this program.
    pub version: &'static str,
    /// What was built.
    pub name: String,
    /// The stage that was asked for.
    pub target: Option<String>,
    /// The builder's name and driver.
    pub builder: (String, String),
    /// The platforms that were asked for.
    pub platforms: Vec<String>,
    /// When it began and ended.
    pub time: (Time, Time),
    /// What came of it.
    pub ending: Ending,
    /// The caches that it was to write.
    pub written: Vec<WrittenCache>,
}

/// What came of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It succeeded.
    Succeeded,
    /// It failed for this reason.
    Failed(String),
    /// The user cancelled it.
    Canceled,
}

/// A cache that a build was to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenCache {
    /// Its reference or folder, or the type of another cache.
    pub name: String,
    /// It is part of the image.
    pub is_inline: bool,
}

/// What is known of a build on one node.
#[derive(Debug, Clone, Copy)]
pub struct NodeFacts<'a> {
    /// The node's name, where there are several.
    pub name: Option<&'a str>,
    /// What was reported.
    pub model: &'a Model,
    /// What is known besides.
    pub known: Option<&'a Known>,
}

/// A step with what it was made of.
pub(super) struct Found {
    pub(super) step: Step,
    /// Which of the nodes it belongs to.
    pub(super) node: usize,
    /// The vertices of the plan.
    pub(super) members: Vec<usize>,
    /// Its place among what was reported.
    pub(super) order: usize,
}

//! The output of `ls`: a table, JSON lines or a template, from loaded builders.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{json as builder_json, platforms};
use crate::builder::load::{LoadedBuilder, LoadedNode};
use crate::builder::platform::format_groups;
use crate::cli::format::{self, Format};
use crate::cli::template::{Template, TemplateError};
use crate::text::go_json;

const DEFAULT: &str = "{{.Name}}\t{{.DriverEndpoint}}\t{{.Status}}\t{{.Buildkit}}\t{{.Platforms}}";
const HEADERS: &[(&str, &str)] = &[
    ("Name", "NAME/NODE"),
    ("DriverEndpoint", "DRIVER/ENDPOINT"),
    ("LastActivity", "LAST ACTIVITY"),
    ("Status", "STATUS"),
    ("Buildkit", "BUILDKIT"),
    ("Platforms", "PLATFORMS"),
];
const NODE_MARK: &str = " \\_ ";
const MAX_PLATFORM_GROUPS: usize = 4;
/// What is listed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listing<'a> {
    /// The builders.
    pub(super) builders: &'a [LoadedBuilder],
    /// Name of the current builder.
    pub(super) current: &'a str,
    /// Long lists of platforms are cut.
    pub(super) truncate: bool,
}

/// Parses `--format`.
pub(super) fn format(text: &str) -> Result<Format, TemplateError> {
    Format::parse(text, DEFAULT)
}

impl Listing<'_> {
    /// Renders all builders.
    pub(super) fn render(&self, format: &Format) -> Result<String, TemplateError> {
        match format {
            Format::Json => Ok(self
                .builders
                .iter()
                .map(|builder| go_json::encode(&self.json(builder)) + "\n")
                .collect()),
            Format::Lines(template) => self.lines(template, false),
            Format::Table(template) => {
                let rows = self.lines(template, true)?;
                Ok(format::table(template, HEADERS, &rows))
            }
        }
    }

    fn json(&self, builder: &LoadedBuilder) -> Value {
        builder_json::builder(builder, builder.name == self.current)
    }

    fn lines(&self, template: &Template, table: bool) -> Result<String, TemplateError> {
        let mut lines = String::new();
        for builder in self.builders {
            let whole = self.json(builder);
            let mut rows = vec![self.builder_row(builder, table)];
            if builder.error.is_none() {
                let nodes = builder.nodes.iter();
                rows.extend(nodes.map(|node| self.node_row(builder, node, table)));
            }
            for mut row in rows {
                row["Builder"] = whole.clone();
                lines.push_str(&template.render(&row, &whole)?);
                lines.push('\n');
            }
        }
        Ok(lines)
    }

    fn builder_row(&self, builder: &LoadedBuilder, table: bool) -> Value {
        let star = if table && builder.name == self.current {
            "*"
        } else {
            ""
        };
        let time = builder.last_activity.map(|time| time.to_string());
        row([
            ("Name", format!("{}{star}", builder.name)),
            ("DriverEndpoint", builder.driver.clone()),
            ("LastActivity", time.unwrap_or_default()),
            (
                "Status",
                if builder.error.is_some() { "error" } else { "" }.to_owned(),
            ),
            ("Buildkit", String::new()),
            ("Platforms", String::new()),
            ("Error", builder.error.clone().unwrap_or_default()),
        ])
    }

    fn node_row(&self, builder: &LoadedBuilder, node: &LoadedNode, table: bool) -> Value {
        let mark = if table { NODE_MARK } else { "" };
        let status = match (&node.error, node.status) {
            (Some(_), _) => "error".to_owned(),
            (None, status) => status.map(|s| s.to_string()).unwrap_or_default(),
        };
        let platforms = format_groups(&node.stored.platforms, &node.platforms);
        let platforms = if table && self.truncate {
            platforms::truncated(&platforms, MAX_PLATFORM_GROUPS)
        } else {
            platforms.join(", ")
        };
        let error = node.error.as_ref().or(builder.error.as_ref());
        row([
            ("Name", format!("{mark}{}", node.stored.name)),
            ("DriverEndpoint", format!("{mark}{}", node.stored.endpoint)),
            ("LastActivity", String::new()),
            ("Status", status),
            ("Buildkit", node.version.clone()),
            ("Platforms", platforms),
            ("Error", error.cloned().unwrap_or_default()),
        ])
    }

    /// Returns one line for each builder and node that failed.
    pub(super) fn errors(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for builder in self.builders {
            let name = &builder.name;
            if let Some(error) = &builder.error {
                lines.push(format!("Cannot load builder {name}: {}", error.trim()));
                continue;
            }
            for node in &builder.nodes {
                if let Some(error) = &node.error {
                    let (node, error) = (&node.stored.name, error.trim());
                    lines.push(format!("Failed to get status for {name} ({node}): {error}"));
                }
            }
        }
        lines
    }
}

fn row<const N: usize>(fields: [(&str, String); N]) -> Value {
    let fields: BTreeMap<String, Value> = fields
        .into_iter()
        .map(|(name, text)| (name.to_owned(), json!(text)))
        .collect();
    fields.into_iter().collect()
}

#[cfg(test)]
mod tests;

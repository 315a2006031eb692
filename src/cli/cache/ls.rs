//! `cache ls`: the caches of a repository.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cache::survey::{Survey, TaggedCache};
use crate::cli::Context;
use crate::cli::format::{self, Format};
use crate::cli::template::Template;
use crate::error::CommandError;
use crate::options::size::human_size;
use crate::text::{counted, human};

use super::place::Places;

/// Show the caches of a repository
///
/// Tags that are no caches are counted and no more. UNIQUE is what no other cache of the list has: so much
/// is free once the cache is removed and the registry has collected its garbage.
///
/// Fields of `--format`: Tag, Digest, Size, Unique, Layers, Results, `LastUsed`. With json sizes are bytes and the
/// time is RFC 3339.
#[derive(Debug, Clone, clap::Args)]
pub struct LsArgs {
    /// The repository
    #[arg(value_name = "REPOSITORY")]
    repository: String,
    /// Format the output: table, json, or a template such as '{{.Tag}}'
    #[arg(long, value_name = "string", default_value = "table")]
    format: String,
    /// Use plain HTTP, or HTTPS with any certificate
    #[arg(long)]
    insecure: bool,
    /// Read so many tags at most
    #[arg(long, value_name = "number", default_value_t = 500)]
    limit: usize,
}

const COLUMNS: &str = "{{.Tag}}\t{{.Size}}\t{{.Unique}}\t{{.Layers}}\t{{.Results}}\t{{.LastUsed}}";
const HEADERS: [(&str, &str); 7] = [
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("Size", "SIZE"),
    ("Unique", "UNIQUE"),
    ("Layers", "LAYERS"),
    ("Results", "RESULTS"),
    ("LastUsed", "LAST USED"),
];

/// Runs the command.
///
/// # Errors
///
/// Fails if the registry does not answer, or refuses.
pub async fn run(args: LsArgs, ctx: &Context) -> Result<(), CommandError> {
    let format = Format::parse(&args.format, COLUMNS).map_err(CommandError::failed)?;
    let places = Places::new(ctx);
    let repository = places.whole(&args.repository, args.insecure)?;
    let waiting = format!("reading the tags of {}", args.repository);
    let survey = Survey::of(&repository, args.limit);
    let survey = ctx.ui.patiently(&waiting, Box::pin(survey)).await;
    let survey = survey.map_err(CommandError::failed)?;
    ctx.ui.text(&render(&survey, &format, Timestamp::now())?)?;
    Ok(())
}

fn render(survey: &Survey, format: &Format, now: Timestamp) -> Result<String, CommandError> {
    let rows = |template: &Template| -> Result<String, CommandError> {
        let mut text = String::new();
        for cache in &survey.caches {
            let row = words(survey, cache, now);
            text.push_str(&template.render_data(&row).map_err(CommandError::failed)?);
            text.push('\n');
        }
        Ok(text)
    };
    Ok(match format {
        Format::Json => {
            let lines = survey.caches.iter();
            let lines = lines.map(|cache| format!("{}\n", figures(survey, cache)));
            lines.collect()
        }
        Format::Lines(template) => rows(template)?,
        Format::Table(template) => {
            let table = format::table(template, &HEADERS, &rows(template)?);
            let caches = counted(survey.caches.len(), "cache");
            let others = counted(survey.others.len(), "other tag");
            format!("{table}{caches}, {}; {others}\n", human_size(survey.size()))
        }
    })
}

fn unique(survey: &Survey, cache: &TaggedCache) -> u64 {
    survey.freed_by(&HashSet::from([cache.tag.as_str()]))
}

fn figures(survey: &Survey, cache: &TaggedCache) -> Value {
    json!({
        "Tag": cache.tag,
        "Digest": cache.digest.as_str(),
        "Size": cache.size(),
        "Unique": unique(survey, cache),
        "Layers": cache.layers.len(),
        "Results": cache.results,
        "LastUsed": cache.last_used.map(|time| time.to_string()),
    })
}

fn words(survey: &Survey, cache: &TaggedCache, now: Timestamp) -> Value {
    let mut row = figures(survey, cache);
    row["Size"] = human_size(cache.size()).into();
    row["Unique"] = human_size(unique(survey, cache)).into();
    row["LastUsed"] = ago(cache.last_used, now).into();
    row
}

/// Returns how long ago something was, in words.
pub(super) fn ago(time: Option<Timestamp>, now: Timestamp) -> String {
    let Some(time) = time else {
        return "unknown".to_owned();
    };
    let age = Duration::try_from(now.duration_since(time)).unwrap_or_default();
    format!("{} ago", human::duration(age))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn tables_have_words_and_json_has_figures() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        let survey = Survey {
            caches: vec![TaggedCache {
                tag: "b-main".into(),
                digest: Digest::of(b"m"),
                layers: [(Digest::of(b"a"), 1_400_000), (Digest::of(b"b"), 100_000)].into(),
                results: 7,
                last_used: "2026-11-28T10:00:00Z".parse().ok(),
                replaced: Vec::new(),
            }],
            others: vec![("latest".into(), None)],
        };
        let render = |text: &str| {
            let format = Format::parse(text, COLUMNS).unwrap();
            render(&survey, &format, now).unwrap()
        };
        assert_eq!(
            render("table"),
            "TAG       SIZE      UNIQUE    LAYERS    RESULTS   LAST USED\n\
             b-main    1.5MB     1.5MB     2         7         2 hours ago\n\
             1 cache, 1.5MB; 1 other tag\n"
        );
        assert_eq!(render("{{.Tag}} {{.Size}}"), "b-main 1.5MB\n");
        let json: Value = serde_json::from_str(&render("json")).unwrap();
        assert_eq!(json["Size"], 1_500_000);
        assert_eq!(json["LastUsed"], "2026-11-28T10:00:00Z");
    }
}

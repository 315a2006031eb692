//! `cache diff`: what one cache has and another has not.

use std::fmt::Write as _;

use crate::cache::difference::{Difference, Given, Side};
use crate::cache::outline::Outline;
use crate::cli::Context;
use crate::cli::table;
use crate::error::CommandError;
use crate::options::size::human_size;
use crate::text::{counted, foreign};

use super::inspect::load_with_record;
use super::output::Format;
use super::place::{self, Places};

/// Characters of a name that are shown.
const NAME: usize = 72;
/// Files that are named for a step.
const FILES: usize = 5;

/// Show what one cache has and another has not
///
/// Both are caches as in `cache inspect`. A result counts as the same where the step and its layer's content are.
///
/// Fields of `--format`: onlyA, onlyB, both, each with results (how many), size (bytes) and steps (key, name, size,
/// files).
#[derive(Debug, Clone, clap::Args)]
pub struct DiffArgs {
    /// The first cache
    #[arg(value_name = "A")]
    a: String,
    /// The second cache
    #[arg(value_name = "B")]
    b: String,
    /// Exit with 1 if they differ
    #[arg(long)]
    exit_code: bool,
    /// Format the output: table, json, or a template such as '{{.both.results}}'
    #[arg(long, value_name = "string", default_value = "table")]
    format: String,
    /// Use plain HTTP, or HTTPS with any certificate
    #[arg(long)]
    insecure: bool,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if a cache cannot be read; with `--exit-code` also where they differ, after everything was shown.
pub async fn run(args: DiffArgs, ctx: &Context) -> Result<(), CommandError> {
    let format = Format::parse(&args.format).map_err(CommandError::failed)?;
    let places = Places::new(ctx);
    let mut read = Vec::new();
    for name in [&args.a, &args.b] {
        let source = places.find(name, args.insecure)?;
        let waiting = format!("reading the cache {name}");
        let loading = Box::pin(load_with_record(&source));
        let loaded = ctx.ui.patiently(&waiting, loading).await;
        let (loaded, record) = loaded.map_err(|error| place::failure(name, &error, ctx))?;
        read.push((Outline::of(&loaded, record.as_ref()), record));
    }
    let given = |at: usize| {
        let (outline, record) = read.get(at)?;
        let record = record.as_ref();
        Some(Given { outline, record })
    };
    let difference = match (given(0), given(1)) {
        (Some(a), Some(b)) => Difference::of(&a, &b),
        _ => Difference::default(),
    };
    let text = format.render(&difference, || text(&difference));
    ctx.ui.text(&text.map_err(CommandError::failed)?)?;
    if args.exit_code && !difference.is_none() {
        return Err(CommandError::failed("the caches differ"));
    }
    Ok(())
}

fn text(difference: &Difference) -> String {
    let mut text = side("only in A:", "-", &difference.only_a);
    text.push_str(&side("only in B:", "+", &difference.only_b));
    text.push_str(&side("in both:  ", "", &difference.both));
    text
}

fn side(title: &str, sign: &str, side: &Side) -> String {
    let results = counted(side.results, "result");
    let mut text = format!("{title} {results}, {}\n", human_size(side.size));
    let mut rows = String::new();
    for step in &side.steps {
        let shown = step.files.iter().take(FILES);
        let mut files: Vec<String> = shown.map(|file| foreign::line(file).into_owned()).collect();
        if step.files.len() > FILES {
            files.push(format!("and {} more", step.files.len() - FILES));
        }
        let files = if files.is_empty() {
            String::new()
        } else {
            format!("files differ: {}", files.join(", "))
        };
        let name = foreign::excerpt(&step.name, NAME);
        let bytes = step.size.map(human_size).unwrap_or_default();
        // Writing to a text does not fail.
        let _written = writeln!(rows, "  {sign} {name}\t{bytes}\t{files}");
    }
    let rows = table::columns(&rows, 0, 3);
    for row in rows.lines() {
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::difference::Changed;

    #[test]
    fn each_side_has_its_steps() {
        let step = |name: &str, size, files: &[&str]| Changed {
            name: name.to_owned(),
            size: Some(size),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            ..Changed::default()
        };
        let of = |results, size, steps| Side {
            results,
            size,
            steps,
        };
        let difference = Difference {
            only_a: of(
                1,
                30_900_000,
                vec![step("[build 5/6] RUN npm run build", 30_900_000, &[])],
            ),
            only_b: of(
                2,
                31_200_100,
                vec![
                    step("[build 4/6] COPY . .", 100, &["src/a\u{1b}[2J.ts", "b"]),
                    step("[build 5/6] RUN npm run build", 31_200_000, &[]),
                ],
            ),
            both: of(59, 380_000_000, Vec::new()),
        };
        assert_eq!(
            text(&difference),
            "only in A: 1 result, 30.9MB\n  \
             - [build 5/6] RUN npm run build   30.9MB\n\
             only in B: 2 results, 31.2MB\n  \
             + [build 4/6] COPY . .            100B     files differ: src/a.ts, b\n  \
             + [build 5/6] RUN npm run build   31.2MB\n\
             in both:   59 results, 380MB\n"
        );
    }
}

//! Which display a build gets: the flags, the environment and the terminal decide.

/// The forms of progress output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The live tree of a terminal.
    Tty,
    /// Text lines, `#5 0.312 text`.
    Plain,
    /// One JSON object a line.
    RawJson,
    /// Nothing.
    Quiet,
}

/// What decides the mode.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// Value of `--progress`; `None` or an empty text mean `auto`.
    pub flag: Option<&'a str>,
    /// Value of `BUILDKIT_PROGRESS`; it stands in for `auto`.
    pub environment: Option<&'a str>,
    /// `-q` was given.
    pub quiet: bool,
    /// The output is a terminal that understands escapes.
    pub is_terminal: bool,
    /// The program runs in a CI job: `auto` is then plain even where the job has a terminal.
    pub is_ci: bool,
}

/// The answer of [`resolve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// The display.
    pub mode: Mode,
    /// The image ID is to be printed at the end, as `-q` and `--progress=quiet` ask for;
    /// `--progress=none` prints nothing at all.
    pub print_image_id: bool,
}

/// Why there is no display for the request.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ResolveError {
    /// The value is none of the known ones.
    #[error("invalid progress mode {value}{}: known are auto, none, plain, quiet, rawjson, tty", from(*.from_environment))]
    Unknown {
        /// The value as given.
        value: String,
        /// It came from `BUILDKIT_PROGRESS`, not from the flag.
        from_environment: bool,
    },
    /// `-q` with a display that prints.
    #[error("progress={value} and quiet cannot be used together")]
    QuietConflict {
        /// The value of `--progress`.
        value: String,
    },
    /// `tty` was asked for without a terminal.
    #[error("failed to get console: progress mode tty needs a terminal as output")]
    NoTerminal,
}

fn from(environment: bool) -> &'static str {
    if environment {
        " in BUILDKIT_PROGRESS"
    } else {
        ""
    }
}

/// Chooses the display (buildx `toDisplayMode` and `NewPrinter`, BuildKit `NewDisplay`).
///
/// # Errors
///
/// Fails for an unknown value, for `-q` together with a printing display, and for `tty` where
/// the output is not a terminal.
pub fn resolve(request: &Request<'_>) -> Result<Resolved, ResolveError> {
    let flag = request.flag.filter(|f| !f.is_empty()).unwrap_or("auto");
    let silent = Resolved {
        mode: Mode::Quiet,
        print_image_id: request.quiet || flag == "quiet",
    };
    match flag {
        "quiet" | "none" => return Ok(silent),
        "auto" if request.quiet => return Ok(silent),
        "auto" | "plain" | "rawjson" | "tty" if !request.quiet => {}
        "plain" | "rawjson" | "tty" => {
            return Err(ResolveError::QuietConflict {
                value: flag.to_owned(),
            });
        }
        _ => {
            return Err(ResolveError::Unknown {
                value: flag.to_owned(),
                from_environment: false,
            });
        }
    }
    let environment = request.environment.filter(|e| !e.is_empty());
    let (value, from_environment) = match environment {
        Some(value) if flag == "auto" => (value, true),
        _ => (flag, false),
    };
    let mode = match value {
        "auto" if request.is_terminal && !request.is_ci => Mode::Tty,
        "auto" | "plain" => Mode::Plain,
        "tty" if request.is_terminal => Mode::Tty,
        "tty" => return Err(ResolveError::NoTerminal),
        "rawjson" => Mode::RawJson,
        "quiet" => Mode::Quiet,
        _ => {
            return Err(ResolveError::Unknown {
                value: value.to_owned(),
                from_environment,
            });
        }
    };
    Ok(Resolved {
        mode,
        print_image_id: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(flag: &str, env: &str, quiet: bool, tty: bool, ci: bool) -> Result<Mode, String> {
        resolve(&Request {
            flag: Some(flag),
            environment: Some(env),
            quiet,
            is_terminal: tty,
            is_ci: ci,
        })
        .map(|r| r.mode)
        .map_err(|e| e.to_string())
    }

    #[test]
    fn every_way_to_a_mode() {
        let cases = [
            ("auto", "", false, true, false, Mode::Tty),
            ("", "", false, true, false, Mode::Tty),
            ("auto", "", false, false, false, Mode::Plain),
            ("auto", "", false, true, true, Mode::Plain),
            ("tty", "", false, true, true, Mode::Tty),
            ("auto", "plain", false, true, false, Mode::Plain),
            ("auto", "rawjson", false, true, false, Mode::RawJson),
            ("auto", "quiet", false, true, false, Mode::Quiet),
            ("plain", "rawjson", false, true, false, Mode::Plain),
            ("auto", "plain", true, true, false, Mode::Quiet),
            ("quiet", "", true, true, false, Mode::Quiet),
            ("none", "", false, true, false, Mode::Quiet),
            ("rawjson", "", false, false, false, Mode::RawJson),
        ];
        for (flag, env, quiet, tty, ci, want) in cases {
            assert_eq!(
                mode(flag, env, quiet, tty, ci),
                Ok(want),
                "{flag} {env} {quiet} {tty} {ci}"
            );
        }
    }

    #[test]
    fn only_quiet_asks_for_the_image_id() {
        let id = |flag: &str, quiet| {
            resolve(&Request {
                flag: Some(flag),
                quiet,
                ..Request::default()
            })
            .map(|r| r.print_image_id)
        };
        assert_eq!(id("auto", true), Ok(true));
        assert_eq!(id("quiet", false), Ok(true));
        assert_eq!(id("none", false), Ok(false));
        assert_eq!(id("none", true), Ok(true));
        assert_eq!(id("plain", false), Ok(false));
        let env_quiet = resolve(&Request {
            environment: Some("quiet"),
            ..Request::default()
        });
        assert_eq!(env_quiet.map(|r| r.print_image_id), Ok(false));
    }

    #[test]
    fn errors_name_what_was_given() {
        assert_eq!(
            mode("plain", "", true, true, false),
            Err("progress=plain and quiet cannot be used together".into())
        );
        assert_eq!(
            mode("tty", "", false, false, false),
            Err("failed to get console: progress mode tty needs a terminal as output".into())
        );
        assert!(
            mode("fancy", "", false, true, false)
                .unwrap_err()
                .starts_with("invalid progress mode fancy:")
        );
        assert!(
            mode("auto", "none", false, true, false)
                .unwrap_err()
                .starts_with("invalid progress mode none in BUILDKIT_PROGRESS:")
        );
    }
}

//! Colours of the terminal display: `NO_COLOR` and `BUILDKIT_COLORS` (BuildKit `progressui`).

/// One colour: the parameters of an SGR sequence, such as `34` or `38;5;208`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Color(String);

impl Color {
    /// Returns the sequence that switches the colour on.
    pub fn on(&self) -> String {
        format!("\u{1b}[{}m", self.0)
    }

    /// The sequence for faint text, which is a look and no colour.
    pub(super) fn faint() -> String {
        "\u{1b}[2m".to_owned()
    }

    fn named(name: &str) -> Option<Self> {
        const NAMES: [&str; 8] = [
            "black", "red", "green", "yellow", "blue", "magenta", "cyan", "white",
        ];
        let name = name.to_ascii_lowercase();
        if name == "default" {
            return Some(Self("39".to_owned()));
        }
        let (base, plain) = match name.strip_prefix("light-") {
            Some(plain) => (90, plain),
            None => (30, name.as_str()),
        };
        let index = NAMES.iter().position(|n| *n == plain)?;
        Some(Self((base + index).to_string()))
    }

    /// The colour of the 6×6×6 cube that is nearest by BuildKit's own division.
    fn rgb(red: u8, green: u8, blue: u8) -> Self {
        let part = |value: u8| u16::from(value / 43);
        Self(format!(
            "38;5;{}",
            16 + 36 * part(red) + 6 * part(green) + part(blue)
        ))
    }
}

/// The colours of the display. Without colours nothing is coloured, faint or bold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Colors {
    /// Whether any escape for looks is printed.
    pub enabled: bool,
    /// A step that is done.
    pub run: Color,
    /// A step that was cancelled.
    pub cancel: Color,
    /// A warning.
    pub warning: Color,
    /// A step that failed.
    pub error: Color,
}

impl Colors {
    /// No colours at all.
    pub fn none() -> Self {
        Self {
            enabled: false,
            ..Self::standard(false)
        }
    }

    /// BuildKit's own colours; `windows` has another colour for steps that are done.
    pub fn standard(windows: bool) -> Self {
        let code = |c: &str| Color(c.to_owned());
        Self {
            enabled: true,
            run: code(if windows { "36" } else { "34" }),
            cancel: code("33"),
            warning: code("33"),
            error: code("31"),
        }
    }

    /// Reads the variables `NO_COLOR` and `BUILDKIT_COLORS`. Parts of `BUILDKIT_COLORS` that
    /// cannot be read are left out, and one sentence each says so.
    pub fn from_variables(
        no_color: Option<&str>,
        buildkit_colors: Option<&str>,
        windows: bool,
    ) -> (Self, Vec<String>) {
        if no_color.is_some_and(|value| !value.is_empty()) {
            return (Self::none(), Vec::new());
        }
        let mut colors = Self::standard(windows);
        let mut complaints = Vec::new();
        for field in fields(buildkit_colors.unwrap_or_default()) {
            if let Err(complaint) = colors.set(&field) {
                complaints.push(complaint);
            }
        }
        (colors, complaints)
    }

    fn set(&mut self, field: &str) -> Result<(), String> {
        let (key, value) = field
            .split_once('=')
            .filter(|(_, value)| !value.contains('='))
            .ok_or_else(|| format!("BUILDKIT_COLORS: {field:?} is not of the form name=color"))?;
        let color = parse(value).ok_or_else(|| {
            format!(
                "BUILDKIT_COLORS: {value:?} is neither a color name nor three numbers 0 to 255 separated by commas"
            )
        })?;
        let slot = match key.to_ascii_lowercase().as_str() {
            "run" => &mut self.run,
            "cancel" => &mut self.cancel,
            "error" => &mut self.error,
            "warning" => &mut self.warning,
            _ => {
                return Err(format!(
                    "BUILDKIT_COLORS: unknown name {key:?}: known are run, cancel, error, warning"
                ));
            }
        };
        *slot = color;
        Ok(())
    }
}

fn parse(value: &str) -> Option<Color> {
    if let Some(color) = Color::named(value) {
        return Some(color);
    }
    let mut parts = value.split(',').map(str::parse::<u8>);
    let (red, green, blue) = (
        parts.next()?.ok()?,
        parts.next()?.ok()?,
        parts.next()?.ok()?,
    );
    parts.next().is_none().then(|| Color::rgb(red, green, blue))
}

/// Splits at colons outside double quotes and takes the quotes away.
fn fields(input: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    for c in input.chars() {
        match c {
            '"' => quoted = !quoted,
            ':' if !quoted => out.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    out.push(field);
    out.retain(|field| !field.is_empty());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_wins_over_buildkit_colors() {
        let (colors, complaints) = Colors::from_variables(Some("1"), Some("run=green:x"), false);
        assert!(!colors.enabled);
        assert!(complaints.is_empty());
        let (colors, _) = Colors::from_variables(Some(""), None, false);
        assert!(colors.enabled);
        assert_eq!(colors.run.on(), "\u{1b}[34m");
        assert_eq!(Colors::standard(true).run.on(), "\u{1b}[36m");
    }

    #[test]
    fn buildkit_colors_sets_names_and_numbers() {
        let (colors, complaints) = Colors::from_variables(
            None,
            Some("run=light-blue:ERROR=Light-Red:cancel=255,165,0:warning=default"),
            false,
        );
        assert_eq!(complaints, Vec::<String>::new());
        assert_eq!(colors.run.on(), "\u{1b}[94m");
        assert_eq!(colors.error.on(), "\u{1b}[91m");
        assert_eq!(colors.cancel.on(), "\u{1b}[38;5;214m");
        assert_eq!(colors.warning.on(), "\u{1b}[39m");
    }

    #[test]
    fn bad_parts_are_named_and_the_rest_counts() {
        let (colors, complaints) = Colors::from_variables(
            None,
            Some("run=puce:stop=red:error=1,2:cancel=1,2,256:x:warning=green:a=b=c"),
            false,
        );
        assert_eq!(complaints.len(), 6, "{complaints:?}");
        assert_eq!(colors.warning.on(), "\u{1b}[32m");
        assert_eq!(colors.run, Colors::standard(false).run);
    }
}

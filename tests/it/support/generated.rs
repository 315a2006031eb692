//! Dockerfiles with contexts that look random, and changes to them.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use fs_err as fs;
use tempfile::TempDir;

use super::rig::context;

/// Numbers that look random and are the same in every run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        // The first numbers of near seeds are near each other.
        let mut numbers = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        numbers.below(1);
        numbers
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// Commands, `@` is a number.
const RUNS: [&str; 13] = [
    "RUN echo @ > /r@",
    "RUN echo $V $E $G > /v@",
    "RUN [\"/bin/sh\", \"-c\", \"echo @ > /x@\"]",
    "RUN <<EOT\necho heredoc @\necho $E > /hd@\nEOT",
    "RUN --network=none echo @ > /none@",
    "RUN --mount=type=bind,source=src,target=/s ls -R /s > /m@",
    "RUN --mount=type=bind,target=/all,rw ls -R /all > /a@ && touch /all/x",
    "RUN --mount=type=bind,from=named,target=/n ls -R /n > /nm@",
    "RUN --mount=type=cache,target=/c@ echo @ > /c@/x",
    "RUN --mount=type=cache,id=other,target=/d,sharing=locked echo @ > /d/x",
    "RUN --mount=type=tmpfs,target=/t,size=4096 echo @ > /t/x && echo @ > /tm@",
    "RUN --mount=type=secret,id=none,required=false,target=/run/s echo @ > /se@",
    "RUN --mount=type=bind,source=src/deep,target=/one --mount=type=bind,source=src/tool,target=/two ls /one > /mm@",
];

/// Commands and copies that read another stage.
const FROM_STAGE: [&str; 3] = [
    "RUN --mount=type=bind,from=build,source=/out,target=/o ls -R /o > /o@",
    "COPY --from=build /out /b@",
    "COPY --from=build --link /out /bl@",
];

/// Copies.
const COPIES: [&str; 18] = [
    "COPY *.txt /w@/",
    "COPY src* /ws@/",
    "COPY src/*.js src/deep /mixed@/",
    "COPY src/ /f@/",
    "COPY . /all@/",
    "COPY a.txt b.txt /two@/",
    "COPY --chown=12:34 --chmod=604 a.txt /ch@/",
    "COPY --chown=root:root src/tool /own@/",
    "COPY --link src/deep /l@",
    "COPY --link --chmod=755 a.txt /lc@/",
    "COPY --exclude=*.md src /e@/",
    "COPY --exclude=deep/er --exclude=*.js src src-b /ee@/",
    "COPY --from=named . /n@/",
    "COPY --from=named x.txt /nx@/",
    "COPY <<EOT /h@\ntext @ $V\nEOT",
    "COPY <<A <<B /hh@/\nfirst @\nA\nsecond\nB",
    "ADD link b.txt /ad@/",
    "ADD --chmod=700 src/main.js /am@",
];

/// Copies that not every frontend knows.
const PARENTS: [&str; 2] = [
    "COPY --parents src/deep/e.md src-b/f.js /p@/",
    "COPY --parents src/./deep/*.md /pp@/",
];

/// What goes into the steps below.
const SETTINGS: [&str; 8] = [
    "ARG V=@",
    "ARG G",
    "ENV E=@",
    "ENV P=$V-@",
    "WORKDIR /wd@",
    "SHELL [\"/bin/sh\", \"-ec\"]",
    "LABEL l=@",
    "ENV E=a V=b",
];

/// What can stand in a stage.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    runs: bool,
    stage: bool,
    parents: bool,
}

fn instruction(numbers: &mut Numbers, allowed: Allowed, number: usize) -> String {
    let line = loop {
        break match numbers.below(10) {
            0..=3 if allowed.runs => numbers.of(&RUNS),
            4 if allowed.stage => numbers.of(&FROM_STAGE),
            5 if allowed.parents => numbers.of(&PARENTS),
            0..=1 | 5..=7 => numbers.of(&COPIES),
            8..=9 => numbers.of(&SETTINGS),
            _ => continue,
        };
    };
    if line.starts_with("RUN") && !allowed.runs {
        return "COPY --from=build /out /b@".replace('@', &number.to_string());
    }
    line.replace('@', &number.to_string())
}

fn instructions(numbers: &mut Numbers, allowed: Allowed, count: usize) -> Vec<String> {
    let numbered = 1..=count;
    numbered
        .map(|number| instruction(numbers, allowed, number))
        .collect()
}

/// A build that is made by chance, and a change to it.
pub(crate) struct Case {
    numbers: Numbers,
    base: String,
    /// A text that no other build has.
    salt: String,
    platforms: Option<&'static str>,
    argument: usize,
    /// The stage that others read.
    build: (Vec<String>, Allowed),
    last: (Vec<String>, Allowed),
    change: String,
}

impl Case {
    /// Makes one. `has_parents` is whether the frontend knows `COPY --parents`.
    pub(crate) fn new(mut numbers: Numbers, base: &str, salt: &str, has_parents: bool) -> Self {
        let platforms = match numbers.below(4) {
            // Commands of another platform than the builder's need more than a builder.
            0 => Some("linux/amd64,linux/arm64"),
            1 => Some("linux/amd64,linux/amd64/v2"),
            _ => None,
        };
        let in_build = Allowed {
            runs: true,
            stage: false,
            parents: has_parents,
        };
        let in_last = Allowed {
            runs: !platforms.is_some_and(|platforms| platforms.contains("arm64")),
            stage: true,
            parents: has_parents,
        };
        let (first, last) = (1 + numbers.below(4), 5 + numbers.below(5));
        Self {
            build: (instructions(&mut numbers, in_build, first), in_build),
            last: (instructions(&mut numbers, in_last, last), in_last),
            numbers,
            base: base.to_owned(),
            salt: salt.to_owned(),
            platforms,
            argument: 1,
            change: String::new(),
        }
    }

    /// A context with files of all kinds, and one beside it that has a name.
    pub(crate) fn folder() -> TempDir {
        let folder = context(&[
            (".dockerignore", "ignored\n*.log\nnamed\n"),
            ("a.txt", "a\n"),
            ("b.txt", "b\n"),
            ("gone.txt", "gone\n"),
            ("ignored/x", "x\n"),
            ("build.log", "y\n"),
            ("src/main.js", "main\n"),
            ("src/gone.js", "gone\n"),
            ("src/deep/er/d.js", "d\n"),
            ("src/deep/e.md", "e\n"),
            ("src/deep/gone.md", "gone\n"),
            ("src-b/f.js", "f\n"),
            ("named/x.txt", "x\n"),
            ("named/gone.txt", "gone\n"),
            ("named/sub/y", "y\n"),
        ]);
        symlink("src/deep", folder.path().join("link")).expect("a link");
        let tool = folder.path().join("src/tool");
        fs::write(&tool, "#!/bin/sh\n").expect("a file");
        set_mode(&tool, 0o755);
        folder
    }

    fn dockerfile(&self) -> String {
        let Self { base, salt, .. } = self;
        let (build, last) = (self.build.0.join("\n"), self.last.0.join("\n"));
        let end = if self.last.1.runs {
            "RUN echo end > /end\n"
        } else {
            "COPY a.txt /end\n"
        };
        format!(
            "FROM --platform=$BUILDPLATFORM {base} AS base\nRUN echo {salt} > /salt\n\
             FROM base AS build\n{build}\nCOPY src /out\n\
             FROM {base}\n{last}\nCOPY --from=base /salt /\n{end}"
        )
    }

    /// Writes the Dockerfile.
    pub(crate) fn write(&self, folder: &Path) {
        fs::write(folder.join("Dockerfile"), self.dockerfile()).expect("a file");
    }

    /// Returns the arguments of a build.
    pub(crate) fn args(&self, folder: &Path) -> Vec<String> {
        let mut args = vec![
            format!("--build-context=named={}", folder.join("named").display()),
            format!("--build-arg=G={}", self.argument),
        ];
        args.extend(
            self.platforms
                .map(|platforms| format!("--platform={platforms}")),
        );
        args
    }

    /// Returns how often the build may be tried. While BuildKit drops one of two steps that are the same, on two platforms,
    /// it now and then loses what the cache has of them, as with several caches (moby/buildkit#4674). Of some builds it does
    /// so always, whoever asks for it.
    pub(crate) fn tries(&self) -> usize {
        if self.platforms.is_some() { 3 } else { 1 }
    }

    /// Returns the case in words.
    pub(crate) fn what(&self) -> String {
        format!(
            "{} for {}",
            self.change,
            self.platforms.unwrap_or("the builder's platform")
        )
    }

    /// Returns the case with its Dockerfile.
    pub(crate) fn told(&self) -> String {
        format!("{}:\n{}", self.what(), self.dockerfile())
    }

    /// Changes one thing.
    pub(crate) fn change(&mut self, folder: &Path) {
        self.change = match self.numbers.below(9) {
            0..=4 => self.change_lines(),
            5 => {
                self.argument += 1;
                "another value of an argument".to_owned()
            }
            6 => {
                let more = self.numbers.of(&[
                    "*.md",
                    "src/deep/er",
                    "gone.txt",
                    "src/**/gone.*",
                    "nothing",
                ]);
                let ignored = format!("ignored\n*.log\nnamed\n{more}\n");
                fs::write(folder.join(".dockerignore"), ignored).expect("a file");
                format!("{more} is ignored")
            }
            _ => self.change_files(folder),
        };
        self.write(folder);
    }

    fn change_lines(&mut self) -> String {
        let numbers = &mut self.numbers;
        let in_build = numbers.below(4) == 0;
        let (lines, allowed) = if in_build {
            &mut self.build
        } else {
            &mut self.last
        };
        let allowed = *allowed;
        let at = numbers.below(lines.len());
        let stage = if in_build { "build" } else { "last" };
        let what = match numbers.below(7) {
            0 if lines.len() > 1 => return format!("{stage} without {}", lines.remove(at)),
            1 => {
                lines.insert(at, "ENV ADDED=1".to_owned());
                "new"
            }
            2 => {
                lines.insert(at, instruction(numbers, allowed, 77));
                "new"
            }
            3 if lines.len() > 1 => {
                let at = at.min(lines.len() - 2);
                lines.swap(at, at + 1);
                return format!("{stage}: {} before {}", lines[at], lines[at + 1]);
            }
            4 => {
                // The same with other numbers in it.
                lines[at] = lines[at].replace(['1', '2', '3'], "5");
                "other numbers"
            }
            _ => {
                lines[at] = instruction(numbers, allowed, 88);
                "instead"
            }
        };
        format!("{stage}, {what}: {}", lines[at])
    }

    fn change_files(&mut self, folder: &Path) -> String {
        let numbers = &mut self.numbers;
        match numbers.below(4) {
            0 => {
                let file = numbers.of(&[
                    "gone.txt",
                    "src/gone.js",
                    "src/deep/gone.md",
                    "named/gone.txt",
                ]);
                fs::remove_file(folder.join(file)).expect("a file");
                format!("without {file}")
            }
            1 => {
                let file = numbers.of(&[
                    "new.txt",
                    "src/new.js",
                    "src/deep/er/new.md",
                    "named/new.txt",
                    "new/x",
                ]);
                let path = folder.join(file);
                fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                fs::write(path, "new\n").expect("a file");
                format!("with {file}")
            }
            2 => {
                let file = numbers.of(&[
                    "a.txt",
                    "src/tool",
                    "src/deep/e.md",
                    "src/deep",
                    "named/x.txt",
                    "src",
                ]);
                set_mode(&folder.join(file), 0o750);
                format!("another mode of {file}")
            }
            _ => {
                let files = [
                    "a.txt",
                    "b.txt",
                    "src/main.js",
                    "src/deep/e.md",
                    "src-b/f.js",
                    "named/x.txt",
                    "ignored/x",
                ];
                let file = numbers.of(&files);
                fs::write(folder.join(file), "other\n").expect("a file");
                format!("another {file}")
            }
        }
    }
}

fn set_mode(path: &Path, mode: u32) {
    let mode = std::fs::Permissions::from_mode(mode);
    fs::set_permissions(path, mode).expect("permissions");
}

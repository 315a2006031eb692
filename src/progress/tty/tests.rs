mod summary;

use std::num::NonZeroU16;
use std::sync::Arc;

use parking_lot::Mutex;

use super::frame::{Line, Look};
use super::*;
use crate::progress::model::LogPolicy;
use crate::progress::testing::{
    at, cached, completed, failed, log, part, started, vertex, vertices, warning,
};
use proptest::prelude::*;

/// A terminal with a display on it.
struct Screen {
    model: Model,
    tty: Tty,
    parser: vt100::Parser,
    size: Arc<Mutex<Size>>,
    written: Vec<u8>,
}

fn cells(n: usize) -> NonZeroU16 {
    NonZeroU16::new(u16::try_from(n).unwrap()).unwrap()
}

impl Screen {
    fn new(width: usize, height: usize, colors: Colors) -> Self {
        let size = Arc::new(Mutex::new(Size { width, height }));
        let source = Arc::clone(&size);
        let labels = Labels {
            description: "docker-container:b".into(),
            ..Labels::default()
        };
        Self {
            model: Model::new(LogPolicy::terminal()),
            tty: Tty::new(labels, colors, Box::new(move || Some(*source.lock()))),
            parser: vt100::Parser::new(cells(height), cells(width), 1000),
            size,
            written: Vec::new(),
        }
    }

    fn plain(width: usize, height: usize) -> Self {
        Self::new(width, height, Colors::none())
    }

    fn write(&mut self, bytes: &[u8]) {
        self.parser.process(bytes);
        self.written = bytes.to_vec();
    }

    fn report(&mut self, ms: i64, status: &StatusResponse) {
        let mut out = Vec::new();
        self.model.apply(status, at(ms));
        self.tty.status(&mut self.model, status, at(ms), &mut out);
        self.write(&out);
    }

    fn tick(&mut self, ms: i64) {
        let mut out = Vec::new();
        self.tty.tick(&mut self.model, at(ms), &mut out);
        self.write(&out);
    }

    fn end(&mut self, ms: i64) {
        let mut out = Vec::new();
        self.tty.end(&mut self.model, at(ms), &mut out);
        self.write(&out);
    }

    fn resize(&mut self, width: usize, height: usize) {
        *self.size.lock() = Size { width, height };
        self.parser.set_size(cells(height), cells(width));
    }

    fn rows(&self) -> Vec<String> {
        let contents = self.parser.screen().contents();
        contents.lines().map(|l| l.trim_end().to_owned()).collect()
    }

    /// Everything, the part that scrolled away included.
    fn all_rows(&mut self) -> Vec<String> {
        let mut rows = Vec::new();
        self.parser.screen_mut().set_scrollback(usize::MAX);
        let above = self.parser.screen().scrollback();
        for offset in (1..=above).rev() {
            self.parser.screen_mut().set_scrollback(offset);
            let width = u16::try_from(self.size.lock().width).unwrap();
            let top = self.parser.screen().rows(0, width).next();
            rows.push(top.unwrap().trim_end().to_owned());
        }
        self.parser.screen_mut().set_scrollback(0);
        rows.extend(self.rows());
        rows
    }
}

fn small_build(screen: &mut Screen) {
    let load = "[internal] load build definition from Dockerfile";
    screen.report(0, &started("d", load, 0));
    screen.report(
        10,
        &part("d", "transferring dockerfile:", (123, 0), (0, 20), true),
    );
    screen.report(50, &completed("d", load, 0, 48));
    screen.report(60, &cached("f", "[1/3] FROM docker.io/library/alpine", 50));
    screen.report(100, &started("r", "[2/3] RUN make", 100));
    screen.report(200, &log("r", 150, "cc -c main.c\r\n 10%\r 90%"));
}

#[test]
fn a_running_build() {
    let mut screen = Screen::plain(70, 24);
    small_build(&mut screen);
    screen.report(
        250,
        &vertices(vec![vertex("c", "[3/3] COPY a b", None, None)]),
    );
    screen.tick(8_200);
    assert_eq!(
        screen.rows(),
        [
            "[+] Building 8.2s (2/4)                            docker-container:b",
            " => [internal] load build definition from Dockerfile             0.0s",
            " => => transferring dockerfile: 123B                             0.0s",
            " => CACHED [1/3] FROM docker.io/library/alpine                   0.0s",
            " => [2/3] RUN make                                               8.1s",
            " => => # cc -c main.c",
            " => => #  90%",
        ]
    );
}

#[test]
fn the_last_picture_has_everything_and_the_cursor_is_below() {
    let mut screen = Screen::plain(70, 24);
    small_build(&mut screen);
    screen.report(9_000, &completed("r", "[2/3] RUN make", 100, 8_900));
    screen.end(9_000);
    assert_eq!(
        screen.rows(),
        [
            "[+] Building 9.0s (3/3) FINISHED                   docker-container:b",
            " => [internal] load build definition from Dockerfile             0.0s",
            " => => transferring dockerfile: 123B                             0.0s",
            " => CACHED [1/3] FROM docker.io/library/alpine                   0.0s",
            " => [2/3] RUN make                                               8.8s",
        ]
    );
    assert_eq!(screen.parser.screen().cursor_position(), (5, 0));
}

#[test]
fn errors_warnings_and_transfers() {
    let mut screen = Screen::plain(70, 24);
    screen.report(0, &started("p", "pushing layers", 0));
    screen.report(
        1,
        &part(
            "p",
            "layer sha256:1234",
            (20_000_000, 50_000_000),
            (0, 2_000),
            false,
        ),
    );
    screen.report(2, &started("a", "RUN a", 0));
    screen.report(3, &warning("a", "odd\u{7} thing"));
    screen.report(4, &failed("a", "RUN a", 0, 2_500, "boom"));
    screen.report(5, &failed("b", "RUN b", 0, 2_500, "x: context canceled"));
    screen.tick(3_000);
    assert_eq!(
        screen.rows()[1..],
        [
            " => pushing layers                                               3.0s",
            " => => layer sha256:1234 20.00MB / 50.00MB 10.00MB/s             3.0s",
            " => ERROR RUN a                                                  2.5s",
            " => WARN: odd thing                                              2.5s",
            " => CANCELED RUN b                                               2.5s",
        ]
    );
}

#[test]
fn a_remark_stands_behind_the_name_where_there_is_room() {
    let mut screen = Screen::plain(60, 10);
    screen.report(0, &cached("a", "[1/2] RUN make all", 0));
    screen
        .model
        .note("a", "from localhost:5000/app:cache\u{1b}[2J".into());
    screen.model.note("nobody", "x".into());
    screen.tick(200);
    let rows = screen.rows();
    assert_eq!(
        rows[1],
        " => CACHED [1/2] RUN m (from localhost:5000/app:cache) 0.0s"
    );
    screen.resize(44, 10);
    screen.tick(400);
    let rows = screen.rows();
    assert!(
        rows.iter()
            .any(|r| r == " => CACHED [1/2] RUN make all          0.0s"),
        "{rows:#?}"
    );
}

#[test]
fn a_cached_step_stays_so_when_its_layers_are_fetched_afterwards() {
    let mut screen = Screen::plain(70, 24);
    screen.report(0, &cached("a", "[2/2] RUN make", 0));
    screen.report(10, &started("a", "[2/2] RUN make", 10));
    screen.report(20, &part("a", "sha256:12", (10, 20), (10, 20), false));
    screen.tick(200);
    assert!(screen.rows()[1].starts_with(" => [2/2] RUN make"));
    screen.report(300, &completed("a", "[2/2] RUN make", 10, 300));
    screen.end(500);
    assert!(screen.rows()[1].starts_with(" => CACHED [2/2] RUN make"));
    assert_eq!(screen.model.numbered().cached, 1);
    screen.report(600, &failed("a", "[2/2] RUN make", 10, 600, "gone"));
    screen.end(700);
    assert!(screen.rows()[1].starts_with(" => ERROR [2/2] RUN make"));
}

#[test]
fn colours_mark_what_is_done_and_no_colour_marks_nothing() {
    let mut screen = Screen::new(70, 24, Colors::standard(false));
    small_build(&mut screen);
    screen.tick(1_000);
    let text = String::from_utf8(screen.written.clone()).unwrap();
    assert!(text.contains("\u{1b}[34m => CACHED"), "{text:?}");
    assert!(text.contains("\u{1b}[2m => => #  90%\u{1b}[0m"), "{text:?}");
    assert!(text.contains("\n => [2/3] RUN make"), "{text:?}");
    let mut screen = Screen::plain(70, 24);
    small_build(&mut screen);
    screen.tick(1_000);
    let text = String::from_utf8(screen.written.clone()).unwrap();
    assert!(!text.contains('m') || !text.contains("\u{1b}[2m"));
    assert!(!text.contains("\u{1b}[0m"), "{text:?}");
}

#[test]
fn a_picture_is_one_write_over_the_last_and_the_same_picture_is_none() {
    let mut screen = Screen::plain(70, 24);
    small_build(&mut screen);
    screen.tick(1_000);
    let text = String::from_utf8(screen.written.clone()).unwrap();
    assert!(text.starts_with("\r\u{1b}[7A"), "{text:?}");
    assert!(text.ends_with("\u{1b}[K\r\n\u{1b}[J"), "{text:?}");
    assert!(!text.contains("\u{1b}[2J"));
    screen.tick(1_001);
    assert!(screen.written.is_empty());
    screen.tick(1_200);
    assert!(!screen.written.is_empty());
}

fn many_steps(screen: &mut Screen, count: usize, open: usize) {
    for i in 0..count {
        let ms = i64::try_from(i).unwrap();
        let (digest, name) = (format!("v{i}"), format!("[{i}/{count}] RUN step {i}"));
        let status = if i + open < count {
            completed(&digest, &name, ms, ms + 1)
        } else {
            started(&digest, &name, ms)
        };
        screen.report(ms, &status);
        screen.report(ms, &log(&digest, ms, &format!("log of {i}\n")));
    }
}

#[test]
fn three_hundred_steps_fit_and_all_are_in_the_last_picture() {
    let mut screen = Screen::plain(60, 12);
    many_steps(&mut screen, 300, 2);
    screen.tick(500);
    let rows = screen.all_rows();
    assert_eq!(rows.len(), 11, "{rows:#?}");
    assert!(rows[0].starts_with("[+] Building 0.5s (298/300)"));
    assert_eq!(rows[1], " => ... 293 more done");
    assert!(
        rows[7].starts_with(" => [298/300] RUN step 298"),
        "{rows:#?}"
    );
    assert_eq!(rows[8], " => => # log of 298");
    assert_eq!(rows[10], " => => # log of 299");
    screen.end(600);
    let rows = screen.all_rows();
    assert_eq!(rows.len(), 301);
    for (i, row) in rows.iter().skip(1).enumerate() {
        assert!(
            row.starts_with(&format!(" => [{i}/300] RUN step {i} ")),
            "{row}"
        );
    }
}

#[test]
fn more_running_steps_than_rows() {
    let mut screen = Screen::plain(60, 10);
    many_steps(&mut screen, 50, 50);
    screen.tick(100);
    let rows = screen.all_rows();
    assert_eq!(rows.len(), 9, "{rows:#?}");
    assert_eq!(rows[1], " => ... 43 more running");
    assert!(rows[8].starts_with(" => [49/50]"));
}

#[test]
fn windows_go_to_the_steps_that_wrote_last() {
    let mut screen = Screen::plain(60, 12);
    many_steps(&mut screen, 4, 4);
    for line in 0..20 {
        screen.report(
            100 + line,
            &log("v1", 100 + line, &format!("line {line}\n")),
        );
    }
    screen.tick(1_000);
    let rows = screen.rows();
    assert_eq!(rows.len(), 11, "{rows:#?}");
    let of_step = |name: &str| rows.iter().position(|r| r.contains(name)).unwrap();
    assert_eq!(rows[of_step("step 1") + 1], " => => # line 14");
    assert_eq!(rows[of_step("step 1") + 6], " => => # line 19");
    // No row is left for the others.
    assert_eq!(of_step("step 1"), of_step("step 0") + 1);
}

#[test]
fn a_narrower_terminal_gets_a_whole_picture() {
    let mut screen = Screen::plain(100, 30);
    small_build(&mut screen);
    screen.tick(1_000);
    screen.resize(40, 12);
    screen.tick(1_500);
    let rows = screen.rows();
    let head = rows
        .iter()
        .position(|r| r.starts_with("[+] Building 1.5s"))
        .unwrap();
    assert_eq!(rows.len() - head, 7, "{rows:#?}");
    assert!(rows[head + 4].ends_with(" 1.4s"), "{rows:#?}");
    screen.resize(120, 40);
    screen.tick(2_000);
    let rows = screen.rows();
    assert_eq!(
        rows.iter().filter(|r| r.contains("[2/3] RUN make")).count(),
        1,
        "{rows:#?}"
    );
}

#[test]
fn the_frame_before_is_counted_as_the_narrow_terminal_wraps_it() {
    let mut painter = Painter::default();
    let frame = |text: &str| Frame {
        lines: vec![
            Line {
                text: text.into(),
                look: Look::Plain,
            },
            Line {
                text: "short".into(),
                look: Look::Plain,
            },
        ],
    };
    let wide = Size {
        width: 100,
        height: 10,
    };
    let narrow = Size {
        width: 30,
        height: 10,
    };
    painter.paint(frame(&"x".repeat(70)), wide, &Colors::none());
    let text = painter.paint(frame("x"), narrow, &Colors::none());
    assert!(text.starts_with("\r\u{1b}[4A"), "{text:?}");
}

#[test]
fn nothing_is_painted_before_the_first_step() {
    let mut screen = Screen::plain(70, 24);
    screen.tick(0);
    screen.end(0);
    assert!(screen.written.is_empty());
}

#[test]
fn names_of_wide_characters_keep_the_times_in_line() {
    let mut screen = Screen::plain(40, 10);
    screen.report(
        0,
        &completed("a", "RUN 日本語日本語日本語日本語日本語日本語", 0, 1_000),
    );
    screen.tick(1_000);
    let row = &screen.rows()[1];
    assert!(row.ends_with(" 1.0s"), "{row}");
    assert!(row.starts_with(" => RUN 日本語"), "{row}");
}

proptest! {
    #[test]
    fn no_picture_is_higher_or_wider_than_the_terminal(
        width in 0..120usize,
        height in 0..40usize,
        steps in 0..30usize,
        open in 0..30usize,
        text in "\\PC{0,60}",
    ) {
        let mut screen = Screen::plain(120, 40);
        many_steps(&mut screen, steps, open);
        screen.report(50, &started("t", &text, 40));
        screen.report(60, &log("t", 60, &text));
        screen.report(70, &part("t", &text, (1, 2), (50, 60), false));
        let labels = Labels { description: text, ..Labels::default() };
        let frame = live(&screen.model, Size { width, height }, at(1_000), &labels);
        prop_assert!(frame.lines.len() <= height.saturating_sub(1));
        for line in &frame.lines {
            prop_assert!(unicode_width::UnicodeWidthStr::width(line.text.as_str()) <= width.saturating_sub(1), "{:?}", line);
            prop_assert!(!line.text.chars().any(char::is_control));
        }
        let rest = complete(&screen.model, Size { width, height }, at(1_000), &labels);
        prop_assert!(rest.lines.len() > steps);
    }
}

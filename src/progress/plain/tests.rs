mod any;
mod turns;

use super::share::MAX_PENDING;
use super::*;
use crate::progress::model::LogPolicy;
use crate::progress::testing::{
    at, cached, completed, failed, log, part, started, vertex, vertices, warning,
};

/// What comes at a time, in milliseconds.
enum Event {
    Report(StatusResponse),
    Tick,
}

use Event::{Report, Tick};

fn play(options: Options, events: Vec<(i64, Event)>) -> String {
    let mut model = Model::new(LogPolicy::lines(true));
    let mut plain = Plain::new(options);
    let mut out = Vec::new();
    let mut end = 0;
    for (ms, event) in events {
        end = ms;
        match event {
            Report(status) => {
                model.apply(&status, at(ms));
                plain.status(&mut model, &status, at(ms), &mut out);
            }
            Tick => plain.tick(&mut model, at(ms), &mut out),
        }
    }
    plain.end(&mut model, at(end), &mut out);
    String::from_utf8(out).unwrap()
}

fn printed(events: Vec<(i64, Event)>) -> String {
    play(Options::default(), events)
}

#[test]
fn a_small_build() {
    let load = "[internal] load build definition from Dockerfile";
    let text = play(
        Options {
            description: "building with \"b\" instance using docker-container driver".into(),
            ..Options::default()
        },
        vec![
            (0, Report(started("d", load, 0))),
            (
                10,
                Report(part(
                    "d",
                    "transferring dockerfile:",
                    (123, 0),
                    (0, 20),
                    true,
                )),
            ),
            (200, Report(completed("d", load, 0, 48))),
            (
                400,
                Report(cached("f", "[1/3] FROM docker.io/library/alpine", 100)),
            ),
            (600, Report(started("r", "[2/3] RUN make", 500))),
            (900, Report(log("r", 812, "cc -c main.c\nld"))),
            (1100, Report(log("r", 1050, " main.o\n"))),
            (20_000, Report(log("r", 12_345, "late\n"))),
            (
                21_000,
                Report(completed("r", "[2/3] RUN make", 500, 20_540)),
            ),
            (
                22_000,
                Report(failed(
                    "c",
                    "[3/3] COPY a b",
                    21_000,
                    21_500,
                    "\"/a\": not found",
                )),
            ),
            (
                22_500,
                Report(failed(
                    "e",
                    "exporting",
                    21_000,
                    21_500,
                    "rpc error: context canceled",
                )),
            ),
        ],
    );
    assert_eq!(
        text,
        "#0 building with \"b\" instance using docker-container driver\n\
         \n\
         #1 [internal] load build definition from Dockerfile\n\
         #1 transferring dockerfile: 123B 0.0s done\n\
         #1 DONE 0.0s\n\
         \n\
         #2 [1/3] FROM docker.io/library/alpine\n\
         #2 CACHED\n\
         \n\
         #3 [2/3] RUN make\n\
         #3 0.312 cc -c main.c\n\
         #3 0.312 ld main.o\n\
         #3 11.85 late\n\
         #3 DONE 20.0s\n\
         \n\
         #4 [3/3] COPY a b\n\
         #4 ERROR: \"/a\": not found\n\
         \n\
         #5 exporting\n\
         #5 CANCELED\n"
    );
}

#[test]
fn a_transfer_is_printed_by_share_and_time() {
    let size = 100_000_000;
    let layer =
        |current, now, done| Report(part("p", "sha256:abc", (current, size), (0, now), done));
    let text = printed(vec![
        (0, Report(started("p", "[1/1] FROM x", 0))),
        (200, layer(1_050_000, 200, false)),
        (400, layer(2_000_000, 400, false)),
        (600, layer(6_050_000, 600, false)),
        (5_000, layer(6_100_000, 5_000, false)),
        (5_700, layer(6_200_000, 5_700, false)),
        (6_000, layer(size, 6_000, true)),
        (
            6_200,
            Report(part(
                "p",
                "extracting sha256:abc",
                (0, 0),
                (6_000, 6_100),
                true,
            )),
        ),
        (
            6_400,
            Report(part("p", "quick", (0, 0), (6_000, 6_005), true)),
        ),
        (6_600, Report(completed("p", "[1/1] FROM x", 0, 6_500))),
    ]);
    assert_eq!(
        text,
        "#1 [1/1] FROM x\n\
         #1 sha256:abc 1.05MB / 100.00MB 0.2s\n\
         #1 sha256:abc 6.05MB / 100.00MB 0.6s\n\
         #1 sha256:abc 6.20MB / 100.00MB 5.7s\n\
         #1 sha256:abc 100.00MB / 100.00MB 6.0s done\n\
         #1 extracting sha256:abc 0.1s done\n\
         #1 quick done\n\
         #1 DONE 6.5s\n"
    );
}

#[test]
fn an_open_part_keeps_a_completed_step_open() {
    assert_eq!(
        printed(vec![
            (0, Report(started("a", "importing cache manifest", 0))),
            (
                200,
                Report(part("a", "inferred", (0, 0), (100, 200), false))
            ),
            (
                400,
                Report(vertices(vec![vertex(
                    "a",
                    "importing cache manifest",
                    Some(0),
                    Some(300)
                )]))
            ),
            (600, Report(part("a", "inferred", (0, 0), (100, 500), true))),
        ]),
        "#1 importing cache manifest\n\
         #1 inferred 0.1s\n\
         #1 DONE 0.3s\n\
         \n\
         #1 importing cache manifest\n\
         #1 inferred 0.4s done\n\
         #1 DONE 0.3s\n"
    );
}

#[test]
fn warnings_are_printed_once() {
    assert_eq!(
        printed(vec![
            (0, Report(started("a", "RUN a", 0))),
            (100, Report(warning("a", "odd"))),
            (200, Report(log("a", 200, "x\n"))),
            (400, Report(completed("a", "RUN a", 0, 300))),
        ]),
        "#1 RUN a\n#1 WARN: odd\n#1 0.200 x\n#1 DONE 0.3s\n"
    );
}

#[test]
fn a_terminal_gets_no_control_characters() {
    let events = || {
        vec![
            (0, Report(started("a", "RUN \u{1b}[2Jprintf", 0))),
            (
                200,
                Report(log("a", 200, "\u{1b}[31mred\u{1b}[0m\u{1b}]0;t\u{7}\r\n")),
            ),
        ]
    };
    let terminal = Options {
        terminal: true,
        ..Options::default()
    };
    assert_eq!(
        play(terminal, events()),
        "#1 RUN printf\n#1 0.200 \u{1b}[31mred\u{1b}[0m\r\n"
    );
    assert_eq!(
        printed(events()),
        "#1 RUN \u{1b}[2Jprintf\n#1 0.200 \u{1b}[31mred\u{1b}[0m\u{1b}]0;t\u{7}\r\n"
    );
}

#[test]
fn long_names_are_cut_on_demand() {
    let name = format!("RUN {}é{}", "x".repeat(67), "y".repeat(20));
    let options = Options {
        truncate_names: true,
        ..Options::default()
    };
    let text = play(options, vec![(0, Report(started("a", &name, 0)))]);
    assert_eq!(text, format!("#1 RUN {}...\n", "x".repeat(67)));
}

#[test]
fn a_hidden_flood_of_logs_is_printed_before_it_grows() {
    let line = format!("{}\n", "x".repeat(99_999));
    let mut model = Model::new(LogPolicy::lines(true));
    let mut plain = Plain::new(Options::default());
    let mut most = 0;
    let mut reports = vec![vertices(vec![
        vertex("a", "A", Some(0), None),
        vertex("b", "B", Some(0), None),
    ])];
    for i in 0..200 {
        reports.push(log(if i % 20 == 0 { "a" } else { "b" }, i, &line));
    }
    let mut out = Vec::new();
    for (i, report) in (0..).zip(reports) {
        let now = at(i * 20);
        model.apply(&report, now);
        plain.status(&mut model, &report, now, &mut out);
        most = most.max(model.vertex(1).log.pending_bytes());
    }
    assert!(most < 2 * MAX_PENDING, "{most}");
    plain.end(&mut model, at(9_000), &mut out);
    assert_eq!(
        out.windows(100).filter(|w| w.ends_with(b"x\n")).count(),
        200
    );
}

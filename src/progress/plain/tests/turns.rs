//! Whose turn it is to be printed.

use super::*;

#[test]
fn the_output_stays_on_a_step_while_that_is_fair() {
    let mut events = vec![
        (0, Report(started("a", "RUN a", 0))),
        (150, Report(started("b", "RUN b", 150))),
        (300, Report(log("a", 300, "a1\n"))),
        (450, Report(log("b", 450, "b1\n"))),
        (600, Report(log("a", 600, "a2\n"))),
        (4_000, Tick),
        // b has waited longer than ten seconds; then the share of b, counted from its first
        // change, is used up.
        (10_400, Report(log("b", 10_400, "b2\n"))),
        (10_600, Report(log("a", 10_600, "a3\n"))),
        (10_800, Report(completed("b", "RUN b", 150, 10_700))),
        (11_000, Tick),
    ];
    events.push((11_500, Report(completed("a", "RUN a", 0, 11_400))));
    assert_eq!(
        printed(events),
        "#1 RUN a\n\
         #1 0.300 a1\n\
         #1 0.600 a2\n\
         #1 ...\n\
         \n\
         #2 RUN b\n\
         #2 0.300 b1\n\
         #2 10.25 b2\n\
         #2 ...\n\
         \n\
         #1 RUN a\n\
         #1 10.60 a3\n\
         #1 ...\n\
         \n\
         #2 RUN b\n\
         #2 DONE 10.6s\n\
         \n\
         #1 RUN a\n\
         #1 DONE 11.4s\n"
    );
}

#[test]
fn a_busy_step_takes_over_after_a_fair_share() {
    let mut events = vec![
        (0, Report(started("a", "RUN a", 0))),
        (150, Report(started("b", "RUN b", 150))),
    ];
    for i in 0..70 {
        let ms = 300 + i * 100;
        events.push((ms, Report(log("b", ms, "b\n"))));
    }
    let text = printed(events);
    let turned = text.find("#1 ...\n\n#2 RUN b\n").expect(&text);
    assert!(turned < text.find("#2 0.150 b").unwrap());
    assert_eq!(
        text.matches(" b\n").count() - text.matches("RUN b\n").count(),
        70
    );
}

#[test]
fn a_step_that_is_done_shows_at_once_and_the_output_returns() {
    assert_eq!(
        printed(vec![
            (0, Report(started("a", "RUN a", 0))),
            (200, Report(log("a", 200, "half a li"))),
            (400, Report(cached("b", "RUN b", 300))),
            (600, Report(log("a", 600, "ne\n"))),
            (800, Report(completed("a", "RUN a", 0, 700))),
        ]),
        "#1 RUN a\n\
         #1 0.200 half a li\n\
         #1 ...\n\
         \n\
         #2 RUN b\n\
         #2 CACHED\n\
         \n\
         #1 RUN a\n\
         #1 0.200 half a line\n\
         #1 DONE 0.7s\n"
    );
}

#[test]
fn reports_wait_for_the_limit_and_the_tick_prints_them() {
    let events = |last| {
        let mut events = vec![
            (0, Report(started("a", "RUN a", 0))),
            (50, Report(log("a", 50, "soon\n"))),
        ];
        events.extend(last);
        events
    };
    let mut model = Model::new(LogPolicy::lines(true));
    let mut plain = Plain::new(Options::default());
    let mut out = Vec::new();
    for (ms, event) in events(None) {
        if let Report(status) = event {
            model.apply(&status, at(ms));
            plain.status(&mut model, &status, at(ms), &mut out);
        }
    }
    assert_eq!(out, b"#1 RUN a\n");
    plain.tick(&mut model, at(200), &mut out);
    assert_eq!(out, b"#1 RUN a\n#1 0.050 soon\n");
    plain.tick(&mut model, at(350), &mut out);
    assert_eq!(out, b"#1 RUN a\n#1 0.050 soon\n");
}

#[test]
fn steps_done_together_come_in_the_order_of_their_ends() {
    assert_eq!(
        printed(vec![(
            0,
            Report(vertices(vec![
                vertex("a", "A", Some(0), Some(900)),
                vertex("b", "B", Some(0), Some(100)),
                vertex("w", "waits", None, None),
            ]))
        )]),
        "#1 B\n#1 DONE 0.1s\n\n#2 A\n#2 DONE 0.9s\n"
    );
}

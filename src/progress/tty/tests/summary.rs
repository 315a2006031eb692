use super::*;
use crate::progress::model::Traffic;

/// A screen of that width whose last picture has a summary, with a build that took 12.4 s.
fn summarized(width: usize, traffic: Traffic) -> Vec<String> {
    let mut screen = Screen::plain(width, 24);
    screen.tty.labels.summary = true;
    small_build(&mut screen);
    screen.report(12_300, &completed("r", "[2/3] RUN make", 100, 12_200));
    screen.report(12_350, &cached("c", "[3/3] COPY a b", 12_300));
    screen.model.add_traffic(traffic);
    screen.end(12_400);
    screen.rows().split_off(6)
}

#[test]
fn a_summary_has_the_numbered_steps_and_what_is_known_of_caches() {
    let none = Traffic::default();
    let sent = Traffic {
        sent: Some(31_240_000),
        ..none
    };
    let both = Traffic {
        received: Some(4_000_000),
        ..sent
    };
    assert_eq!(summarized(70, none), ["2 steps, 1 cached, 12.4s"]);
    assert_eq!(
        summarized(70, sent),
        ["2 steps, 1 cached, 12.4s; cache: sent 31.24MB"]
    );
    assert_eq!(
        summarized(70, both),
        ["2 steps, 1 cached, 12.4s; cache: sent 31.24MB, received 4.00MB"]
    );
    let mounts = Traffic {
        mounts_sent: Some(1_000_000),
        mounts_received: Some(2_000),
        ..none
    };
    assert_eq!(
        summarized(80, mounts),
        ["2 steps, 1 cached, 12.4s; mounts: sent 1.00MB, received 2.00kB"]
    );
    let all = Traffic {
        mounts_sent: Some(0),
        ..both
    };
    assert_eq!(
        summarized(90, all),
        ["2 steps, 1 cached, 12.4s; cache: sent 31.24MB, received 4.00MB; mounts: sent 0B"]
    );
    assert_eq!(
        summarized(40, both),
        [
            "2 steps, 1 cached, 12.4s",
            "cache: sent 31.24MB, received 4.00MB"
        ]
    );
}

#[test]
fn a_summary_counts_all_steps_where_none_is_numbered_and_adds_up() {
    let mut screen = Screen::plain(70, 24);
    screen.report(0, &completed("a", "make [1/2 of it]", 0, 100));
    for bytes in [1_000, 500] {
        screen.model.add_traffic(Traffic {
            received: Some(bytes),
            ..Traffic::default()
        });
    }
    let labels = Labels {
        summary: true,
        ..Labels::default()
    };
    let size = screen.tty.size();
    let picture = complete(&screen.model, size, at(200), &labels);
    assert_eq!(
        picture.lines.last().unwrap().text,
        "1 step, 0 cached, 0.2s; cache: received 1.50kB"
    );
    screen.report(300, &failed("b", "make 2", 200, 300, "exit code: 1"));
    let picture = complete(&screen.model, size, at(300), &labels);
    let last = &picture.lines.last().unwrap().text;
    assert!(
        last.starts_with("2 steps, 0 cached, 1 failed, 0.3s; "),
        "{last}"
    );
    // A running build has none.
    let picture = live(&screen.model, size, at(400), &labels);
    assert_eq!(picture.lines.len(), 3);
}

//! Any reports in any order.

use proptest::prelude::*;

use super::*;

/// Steps of a made-up build.
fn name(step: usize) -> String {
    format!("step {step}")
}

#[derive(Debug, Clone)]
enum Action {
    Start(usize),
    Complete(usize, u8),
    Log(usize, u8),
    Part(usize, i64, bool),
    Group(usize, bool),
    Tick,
}

fn action() -> impl Strategy<Value = Action> {
    let step = 0..4usize;
    prop_oneof![
        step.clone().prop_map(Action::Start),
        (step.clone(), 0..4u8).prop_map(|(s, how)| Action::Complete(s, how)),
        (step.clone(), 1..4u8).prop_map(|(s, n)| Action::Log(s, n)),
        (step.clone(), any::<i64>(), any::<bool>()).prop_map(|(s, n, d)| Action::Part(s, n, d)),
        (step, any::<bool>()).prop_map(|(s, w)| Action::Group(s, w)),
        Just(Action::Tick),
    ]
}

proptest! {
    #[test]
    fn every_log_line_is_printed_once(
        actions in proptest::collection::vec((action(), 0..4_000i64), 0..60)
    ) {
        let mut ms = 0;
        let mut lines = Vec::new();
        let mut events = Vec::new();
        for step in 0..4 {
            events.push((0, Report(started(&step.to_string(), &name(step), 0))));
        }
        for (action, wait) in actions {
            ms += wait;
            let event = match action {
                Action::Start(s) => Report(started(&s.to_string(), &name(s), ms)),
                Action::Complete(s, how) => {
                    let mut status = completed(&s.to_string(), &name(s), ms, ms + 1);
                    status.vertexes[0].cached = how == 1;
                    status.vertexes[0].error = ["", "", "boom", "context canceled"][usize::from(how)].into();
                    Report(status)
                }
                Action::Log(s, n) => {
                    let mut text = String::new();
                    for _ in 0..n {
                        let line = format!("<{}>", lines.len());
                        text.extend([&line, "\n"]);
                        lines.push(line);
                    }
                    Report(log(&s.to_string(), ms, &text))
                }
                Action::Part(s, n, done) => {
                    Report(part(&s.to_string(), "part", (n, n.wrapping_mul(2)), (0, ms), done))
                }
                Action::Group(s, weak) => {
                    let mut status = started(&format!("m{s}"), "member", ms);
                    status.vertexes[0].progress_group = Some(bollard_buildkit_proto::pb::ProgressGroup {
                        id: format!("g{}", s / 2),
                        name: "group".into(),
                        weak,
                    });
                    Report(status)
                }
                Action::Tick => Tick,
            };
            events.push((ms, event));
        }
        for step in 0..4 {
            ms += 1_000;
            events.push((ms, Report(completed(&step.to_string(), &name(step), ms, ms + 1))));
        }
        let text = printed(events);
        for line in lines {
            prop_assert_eq!(text.matches(&line).count(), 1, "{} in {}", line, text);
        }
    }

    #[test]
    fn odd_reports_never_panic(
        times in proptest::collection::vec((any::<i64>(), any::<i32>(), any::<bool>()), 1..20),
        text in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut model = Model::new(LogPolicy::lines(true));
        let mut plain = Plain::new(Options { terminal: true, ..Options::default() });
        let mut out = Vec::new();
        for (i, (seconds, nanos, done)) in times.iter().enumerate() {
            let stamp = bollard_buildkit_proto::google::protobuf::Timestamp { seconds: *seconds, nanos: *nanos };
            let mut status = started(&(i % 3).to_string(), "x", 0);
            status.vertexes[0].started = Some(stamp);
            status.vertexes[0].completed = done.then_some(stamp);
            status.logs = log(&(i % 2).to_string(), 0, "").logs;
            status.logs[0].msg.clone_from(&text);
            status.logs[0].timestamp = None;
            let now = Time::from_nanos(*seconds);
            model.apply(&status, now);
            plain.status(&mut model, &status, now, &mut out);
            plain.tick(&mut model, now, &mut out);
        }
        plain.end(&mut model, Time::default(), &mut out);
        prop_assert!(!out.is_empty() || times.is_empty());
    }
}

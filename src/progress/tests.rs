use parking_lot::Mutex;

use super::*;
use crate::progress::testing::{completed, failed, log, started, warning};

/// A writer that can be looked into.
#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut bytes = self.0.lock();
        bytes.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

fn start(mode: Mode) -> (Progress, Sink) {
    let sink = Sink::default();
    let progress = Progress::start(mode, RenderOptions::new(sink.clone())).unwrap();
    (progress, sink)
}

#[tokio::test]
async fn a_failed_build_ends_with_its_blocks() {
    let (progress, sink) = start(Mode::Plain);
    let sender = progress.sender();
    // One report, so that the text does not depend on when the printer is due.
    sender.send(StatusResponse {
        logs: log("a", 100, "cc main.c\nmain.c:1: error\n").logs,
        warnings: warning("a", "JSONArgsRecommended: x (line 3)").warnings,
        ..failed("a", "[1/2] RUN make", 0, 1_500, "exit code: 1")
    });
    let summary = progress.finish().await;
    assert_eq!(
        sink.text(),
        "#1 [1/2] RUN make\n\
         #1 WARN: JSONArgsRecommended: x (line 3)\n\
         #1 0.100 cc main.c\n\
         #1 0.100 main.c:1: error\n\
         #1 ERROR: exit code: 1\n\
         ------\n > [1/2] RUN make:\n\
         0.100 cc main.c\n\
         0.100 main.c:1: error\n\
         ------\n\
         \n 1 warning found (use docker --debug to expand):\n \
         - JSONArgsRecommended: x (line 3)\n"
    );
    assert_eq!(summary.warnings.len(), 1);
}

#[tokio::test]
async fn quiet_prints_nothing() {
    let (progress, sink) = start(Mode::Quiet);
    let sender = progress.sender();
    sender.send(started("a", "RUN a", 0));
    sender.send(log("a", 100, "text\n"));
    sender.send(failed("a", "RUN a", 0, 1, "boom"));
    progress.finish().await;
    assert_eq!(sink.text(), "");
}

#[tokio::test]
async fn rawjson_prints_reports_alone() {
    let (progress, sink) = start(Mode::RawJson);
    let sender = progress.sender();
    sender.send(started("a", "RUN a", 0));
    sender.send(failed("a", "RUN a", 0, 1, "boom"));
    progress.finish().await;
    let text = sink.text();
    assert_eq!(text.lines().count(), 2);
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["vertexes"][0]["digest"], "a");
    }
}

#[tokio::test]
async fn steps_of_the_client_look_like_any_other() {
    let (progress, sink) = start(Mode::Plain);
    let sender = progress.sender();
    let step = sender.step("[internal] booting buildkit");
    step.log("pulling image");
    step.progress("layer", 500, 2000);
    step.progress("layer", 2000, 2000);
    step.progress("open part", 7, 0);
    step.done();
    sender.step("fails").fail(&"no such container");
    drop(sender.step("is dropped"));
    progress.finish().await;
    let text = sink.text();
    for want in [
        "#1 [internal] booting buildkit\n",
        " pulling image\n",
        "#1 layer 2.00kB / 2.00kB",
        "#1 open part 7B",
        " done\n",
        "#1 DONE 0.",
        " fails\n",
        "ERROR: no such container\n",
        " is dropped\n",
        "CANCELED\n",
        "------\n > fails:\n------\n",
    ] {
        assert!(text.contains(want), "{want:?} in {text}");
    }
}

#[tokio::test]
async fn progress_for_each_piece_of_data_is_passed_on_now_and_then() {
    let (progress, sink) = start(Mode::RawJson);
    let step = progress.sender().step("pushing");
    let before = std::time::Instant::now();
    for i in 0..=10_000 {
        step.progress("layer", i, 10_000);
    }
    // Calls after the end of the part change nothing.
    step.progress("layer", 1, 10_000);
    step.part_done("layer");
    let most = 2 + before.elapsed().as_millis() / 100;
    step.done();
    progress.finish().await;
    let text = sink.text();
    let statuses: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|value: &serde_json::Value| value["statuses"].is_array())
        .collect();
    assert!(statuses.len() as u128 <= most, "{text}");
    let last = &statuses.last().unwrap()["statuses"][0];
    assert_eq!(last["current"], 10_000);
    assert!(last["completed"].is_string());
    assert!(statuses.len() >= 2);
}

#[test]
fn senders_and_steps_can_be_shared_between_tasks() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<StatusSender>();
    shared::<Step>();
    shared::<Progress>();
}

#[tokio::test]
async fn prefixes_go_into_the_brackets() {
    let (progress, sink) = start(Mode::Plain);
    let sender = progress.sender().with_prefix("n0 linux/arm64");
    sender.send(completed("a", "[1/2] FROM x", 0, 100));
    sender.send(completed("b", "exporting", 0, 200));
    progress.finish().await;
    let text = sink.text();
    assert!(text.contains(" [n0 linux/arm64 1/2] FROM x\n"), "{text}");
    assert!(text.contains(" [n0 linux/arm64] exporting\n"), "{text}");
}

#[tokio::test]
async fn logs_of_a_shared_step_come_from_one_source() {
    let (progress, sink) = start(Mode::Plain);
    let first = progress.sender();
    let second = progress.sender();
    first.send(started("a", "RUN a", 0));
    for sender in [&first, &first.clone(), &second] {
        sender.send(log("a", 100, "text\n"));
    }
    drop(first);
    second.send(log("a", 200, "more\n"));
    second.send(completed("a", "RUN a", 0, 300));
    progress.finish().await;
    let text = sink.text();
    assert_eq!(text.matches(" text\n").count(), 2, "{text}");
    assert_eq!(text.matches(" more\n").count(), 1, "{text}");
}

#[tokio::test]
async fn times_can_be_moved_to_this_clock() {
    let (progress, sink) = start(Mode::RawJson);
    let before = Time::now();
    let sender = progress.sender().with_reset_time();
    sender.send(completed("a", "RUN a", 0, 1_500));
    sender.send(log("a", 1_000, "x\n"));
    progress.finish().await;
    let text = sink.text();
    let mut lines = text
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    let nanos = |value: &serde_json::Value| {
        let time: jiff::Timestamp = value.as_str().unwrap().parse().unwrap();
        i64::try_from(time.as_nanosecond()).unwrap()
    };
    let vertex = &lines.next().unwrap()["vertexes"][0];
    let start = nanos(&vertex["started"]);
    assert!(start >= before.nanos() && start <= Time::now().nanos());
    assert_eq!(nanos(&vertex["completed"]) - start, 1_500_000_000);
    let log = &lines.next().unwrap()["logs"][0];
    assert_eq!(nanos(&log["timestamp"]) - start, 1_000_000_000);
}

/// A writer that blocks until it is told to go on.
struct Stalled(mpsc::Receiver<()>, Sink);

impl Write for Stalled {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        // After the first word the other end is gone, and writes pass.
        let _ = self.0.recv();
        self.1.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_stalled_output_neither_blocks_the_producer_nor_fills_the_memory() {
    let (go, wait) = mpsc::channel();
    let sink = Sink::default();
    let options = RenderOptions::new(Stalled(wait, sink.clone()));
    let progress = Progress::start(Mode::Plain, options).unwrap();
    let sender = progress.sender();
    sender.send(started("a", "RUN a", 0));
    let flood = format!("{}\n", "x".repeat(1024 * 1024));
    for _ in 0..80 {
        sender.send(log("a", 1, &flood));
    }
    sender.send(completed("a", "RUN a", 0, 10));
    drop(go);
    progress.finish().await;
    let text = sink.text();
    assert!(text.len() < 40 * 1024 * 1024);
    assert!(text.contains("#1 DONE 0.0s\n"));
    let (before, _) = text.split_once(" bytes of logs are not shown").unwrap();
    let (_, dropped) = before.rsplit_once("WARNING: ").unwrap();
    assert!(dropped.parse::<u64>().unwrap() > 40 * 1024 * 1024);
}

/// A closed pipe.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_closed_output_is_no_reason_to_stop() {
    let progress = Progress::start(Mode::Plain, RenderOptions::new(Closed)).unwrap();
    let sender = progress.sender();
    sender.send(completed("a", "RUN a", 0, 100));
    sender.send(failed("b", "RUN b", 0, 100, "boom"));
    progress.finish().await;
    sender.send(started("late", "late", 0));
}

#[test]
fn a_dropped_display_prints_its_end() {
    let (progress, sink) = start(Mode::Plain);
    progress.sender().send(completed("a", "RUN a", 0, 100));
    drop(progress);
    assert_eq!(sink.text(), "#1 RUN a\n#1 DONE 0.1s\n");
}

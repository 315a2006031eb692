//! Values of variables and secrets: they stand in no record, and in no word about another build.

use fs_err as fs;
use tempfile::TempDir;

use crate::explain_changes::{edit, project, read};
use crate::support::bench::Bench;
use crate::support::caches::{export, import, reference};
use crate::support::registry::{Registry, is_record};
use crate::support::rig::Rig;

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn values_stand_in_no_record_and_no_word_about_another_build() {
    let bench = Bench::new();
    let host = Rig::get().registry.host();
    let (argument, variable, secret) = ("hunter2-argument", "hunter2-variable", "hunter2-secret");
    let folder = project();
    edit(
        folder.path(),
        "ENV MODE=fast",
        &format!("ENV KEY={variable}\nENV MODE=fast"),
    );
    edit(
        folder.path(),
        "RUN ls",
        "RUN --mount=type=secret,id=token cat /run/secrets/token | wc -c && ls",
    );
    let keys = TempDir::new().expect("a folder");
    let file = keys.path().join("token");
    fs::write(&file, secret).expect("a file");
    let secrets = format!("--secret=id=token,src={}", file.display());
    let cache = reference("it/changes");
    let to = export(&cache, "mode=max");
    let given = format!("--build-arg=USED={argument}");
    bench.build("cachex", &[&given, &secrets, &to], folder.path());
    let registry = Registry::new(host);
    let (repository, _) = registry.place(&cache);
    let manifest = registry.manifest_of(&cache);
    let layers = manifest.json["layers"].as_array().expect("layers");
    let entry = layers.iter().find(|layer| is_record(layer));
    let digest = entry.expect("a record")["digest"]
        .as_str()
        .expect("a digest");
    let blob = registry.blob(repository, digest);
    let mut record = String::new();
    std::io::Read::read_to_string(
        &mut flate2::read::GzDecoder::new(blob.as_slice()),
        &mut record,
    )
    .expect("a tar of JSON");
    assert!(
        record.contains("\"USED\"") && record.contains("\"KEY\""),
        "{record}"
    );
    let values = [argument, variable, secret];
    let has_value = |text: &str| values.iter().any(|value| text.contains(value));
    assert!(!has_value(&record), "{record}");

    // Another build has other values, and tells neither those of the first one nor, beside its own log, its own.
    edit(folder.path(), variable, "other-variable");
    fs::write(&file, "other-secret").expect("a file");
    let args = ["--build-arg=USED=other-argument", &secrets];
    let told = read(&bench, &cache, folder.path(), &args);
    assert!(!has_value(&told.progress), "{}", told.progress);
    told.assert_causes(1);
    let forms = ["md", "json", "html"].map(|form| {
        let file = keys.path().join(format!("report.{form}"));
        (format!("--report={form}={}", file.display()), file)
    });
    bench.prune();
    let from = import(&cache);
    let flags = forms.iter().map(|(flag, _)| flag.as_str());
    let args: Vec<&str> = args
        .into_iter()
        .chain([from.as_str()])
        .chain(flags)
        .collect();
    bench.build("cachex", &args, folder.path());
    for (_, file) in &forms {
        let text = fs::read_to_string(file).expect("a report");
        assert!(!has_value(&text), "{text}");
        for own in ["other-argument", "other-variable", "other-secret"] {
            assert!(!text.contains(own), "{own}: {text}");
        }
    }
    let path = folder.path().to_str().expect("UTF-8");
    for args in [
        &["tree", &cache][..],
        &["inspect", &cache],
        &["explain", &from, path],
    ] {
        let args = [&["cachex", "cache"][..], args].concat();
        let (shown, _) = bench.client.docker_ok(&args);
        assert!(!has_value(&shown), "{args:?}: {shown}");
    }
}

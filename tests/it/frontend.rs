//! Caches of builds whose frontend is an image, named by `# syntax=`.
//!
//! No such image can be had without a network, so this test program is the frontend of its own: in a container of
//! BuildKit's it speaks the gateway's protocol over its standard input and output, and lets the built-in frontend do the
//! work.

use std::env;

use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    CacheOptionsEntry, Ref, Result as Made, ReturnRequest, SolveRequest, result,
};
use bollard_buildkit_proto::pb::{
    Definition, DiffOp, Input, LowerDiffInput, MergeInput, MergeOp, Op, UpperDiffInput, op,
};
use docker_cachex::for_tests::buildkit::Client;
use docker_cachex::for_tests::digest::Digest;
use fs_err as fs;
use prost::Message as _;
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::support::bench::Bench;
use crate::support::caches::{export, import, reference};
use crate::support::counter::Counter;
use crate::support::rig::{Rig, context, unique};

/// Set by BuildKit in a frontend's container, and nowhere else.
const SESSION: &str = "BUILDKIT_SESSION_ID";
const OPTION: &str = "BUILDKIT_FRONTEND_OPT_";
/// Makes the frontend put its result together itself.
const PARTS: &str = "build-arg:PARTS";

type Gateway = LlbBridgeClient<Channel>;

#[test]
#[ignore = "it is the frontend in the container of another test"]
fn the_frontend_itself() {
    if env::var_os(SESSION).is_none() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(serve());
    // Standard input never ends.
    runtime.shutdown_background();
}

async fn serve() {
    // The test harness has standard output.
    let output = fs::OpenOptions::new().write(true).open("/proc/self/fd/3");
    let output = tokio::fs::File::from_std(output.expect("the output").into_parts().0);
    let stream = tokio::io::join(tokio::io::stdin(), output);
    let client = Client::connect(stream).await.expect("a gateway");
    let mut gateway = LlbBridgeClient::new(client.channel());
    let answer = match solve(&mut gateway).await {
        Ok(result) => ReturnRequest {
            result: Some(result),
            error: None,
        },
        Err(status) => {
            let mut error = rpc::Status::decode(status.details()).unwrap_or_default();
            error.code = status.code().into();
            status.message().clone_into(&mut error.message);
            ReturnRequest {
                result: None,
                error: Some(error),
            }
        }
    };
    gateway.r#return(answer).await.expect("an end");
}

async fn solve(gateway: &mut Gateway) -> Result<Made, Status> {
    let options = env::vars().filter(|(name, _)| name.starts_with(OPTION));
    let options = options.filter_map(|(_, option)| {
        let (key, value) = option.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    });
    let request = SolveRequest {
        frontend: "dockerfile.v0".into(),
        frontend_opt: options.collect(),
        allow_result_return: true,
        allow_result_array_ref: true,
        ..SolveRequest::default()
    };
    if request.frontend_opt.contains_key(PARTS) {
        return from_parts(gateway, &request).await;
    }
    ask(gateway, request).await
}

async fn ask(gateway: &mut Gateway, request: SolveRequest) -> Result<Made, Status> {
    let made = gateway.solve(request).await?.into_inner().result;
    made.ok_or_else(|| Status::internal("no result"))
}

/// What the stage `upper` changed in `lower`, on the stage `below`.
async fn from_parts(gateway: &mut Gateway, request: &SolveRequest) -> Result<Made, Status> {
    let mut ends = Vec::new();
    let mut all = Definition::default();
    let mut result = None;
    for target in ["lower", "upper", "below"] {
        let mut request = request.clone();
        request.frontend_opt.insert("target".into(), target.into());
        let made = ask(gateway, request).await?;
        let Some(result::Result::Ref(Ref { def: Some(def), .. })) = &made.result else {
            return Err(Status::internal("no definition"));
        };
        ends.push(add(&mut all, def)?);
        result = Some(made);
    }
    let below = ends.pop();
    let diff = op::Op::Diff(DiffOp {
        lower: Some(LowerDiffInput { input: 0 }),
        upper: Some(UpperDiffInput { input: 1 }),
    });
    let diff = put(&mut all, ends, diff);
    let merge = op::Op::Merge(MergeOp {
        inputs: vec![MergeInput { input: 0 }, MergeInput { input: 1 }],
    });
    let merge = put(&mut all, below.into_iter().chain([diff]).collect(), merge);
    let end = Op {
        inputs: vec![merge],
        ..Op::default()
    };
    all.def.push(end.encode_to_vec());
    let imports = request.frontend_opt.get("cache-imports").cloned();
    let request = SolveRequest {
        definition: Some(all),
        cache_imports: cache_imports(imports.as_deref()),
        allow_result_return: true,
        allow_result_array_ref: true,
        ..SolveRequest::default()
    };
    let joined = ask(gateway, request).await?;
    Ok(Made {
        result: joined.result,
        ..result.unwrap_or_default()
    })
}

/// Adds the ops of a definition, and returns its result.
fn add(all: &mut Definition, part: &Definition) -> Result<Input, Status> {
    let broken = |error: prost::DecodeError| Status::new(Code::Internal, error.to_string());
    let mut end = None;
    for bytes in &part.def {
        let op = Op::decode(bytes.as_slice()).map_err(broken)?;
        if op.op.is_none() {
            end = op.inputs.into_iter().next();
        } else if !all.def.contains(bytes) {
            all.def.push(bytes.clone());
        }
    }
    all.metadata.extend(part.metadata.clone());
    end.ok_or_else(|| Status::internal("no end"))
}

fn put(all: &mut Definition, inputs: Vec<Input>, kind: op::Op) -> Input {
    let op = Op {
        inputs,
        op: Some(kind),
        ..Op::default()
    };
    let bytes = op.encode_to_vec();
    let digest = Digest::of(&bytes).to_string();
    all.def.push(bytes);
    all.metadata.entry(digest.clone()).or_default();
    Input { digest, index: 0 }
}

/// The caches to read, as the client wrote them into the frontend's options.
fn cache_imports(json: Option<&str>) -> Vec<CacheOptionsEntry> {
    let all: serde_json::Value = serde_json::from_str(json.unwrap_or("[]")).expect("JSON");
    let entries = all.as_array().into_iter().flatten();
    let entries = entries.map(|entry| CacheOptionsEntry {
        r#type: entry["Type"].as_str().expect("a type").to_owned(),
        attrs: serde_json::from_value(entry["Attrs"].clone()).expect("attributes"),
    });
    entries.collect()
}

/// Pushes an image of this program, and returns its reference.
fn frontend(bench: &Bench) -> String {
    let rig = Rig::get();
    let program = env::current_exe().expect("this program");
    let start =
        "exec 3>&1 1>&2; exec /it --ignored --exact --nocapture frontend::the_frontend_itself";
    let dockerfile = format!(
        "FROM {}\nCOPY it /it\nENTRYPOINT [\"/bin/sh\", \"-c\", \"{start}\"]\n",
        rig.base
    );
    let folder = context(&[("Dockerfile", &dockerfile)]);
    fs::copy(program, folder.path().join("it")).expect("a copy");
    let image = format!("{}/{}:1", rig.registry.host(), unique("it/frontend"));
    let output = format!("--output=type=image,name={image},push=true,compression=zstd");
    bench.build("buildx", &[&output, "--provenance=false"], folder.path());
    image
}

fn project(dockerfile: &str) -> TempDir {
    context(&[("Dockerfile", dockerfile)])
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_frontend_image_is_exported_alongside() {
    let bench = Bench::new();
    let image = frontend(&bench);
    let counter = Counter::start();
    let base = &Rig::get().busybox;
    for keys in ["mode=max,via=client", "mode=max,via=builder", "mode=min"] {
        let seed = unique("seed");
        let dockerfile = |last: &str| {
            format!(
                "# syntax={image}\n\
                 FROM {base} AS side\n\
                 RUN {one}; echo {seed} > /one; sleep 1.2\n\
                 FROM {base}\n\
                 RUN {two}; echo {seed} > /two; sleep 1.2\n\
                 COPY --from=side /one /one\n\
                 RUN {three}; echo {seed} > /three; {last}\n",
                one = counter.tell("one"),
                two = counter.tell("two"),
                three = counter.tell("three"),
            )
        };
        let reference = reference("it/syntax");
        let (from, to) = (import(&reference), export(&reference, keys));
        let progress = bench.fails(1, &[&to], project(&dockerfile("false")).path());
        assert!(progress.contains("kept what has finished"), "{progress}");
        assert!(progress.contains("exit code: 1"), "{progress}");
        let counts = counter.take();
        assert!(
            counts.len() == 3 && counts.values().all(|count| *count == 1),
            "{keys}: {counts:?}"
        );

        let fresh = Bench::new();
        let good = project(&dockerfile("true"));
        let progress = fresh.build("cachex", &[&from, &to], good.path());
        let ran: Vec<_> = counter.take().into_iter().collect();
        assert_eq!(ran, [("/three".to_owned(), 1)], "{keys}\n{progress}");
        fresh.prune();
        let progress = fresh.build("buildx", &[&from], good.path());
        assert!(counter.take().is_empty(), "{keys}\n{progress}");
    }
}

/// The Dockerfile's own frontend makes no step that is a difference of two others.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn differences_and_merges_are_exported_alongside() {
    let bench = Bench::new();
    let image = frontend(&bench);
    let counter = Counter::start();
    let base = &Rig::get().busybox;
    for keys in [
        "mode=max,via=client",
        "mode=max,via=builder",
        "mode=max,via=client,compressor=client,compression=zstd",
    ] {
        let seed = unique("seed");
        let dockerfile = format!(
            "# syntax={image}\n\
             FROM {base} AS lower\n\
             RUN {one}; echo {seed} > /one; sleep 1.2\n\
             FROM lower AS upper\n\
             RUN {two}; echo {seed} > /two; sleep 1.2\n\
             FROM {base} AS below\n\
             RUN {three}; echo {seed} > /three; sleep 1.2\n",
            one = counter.tell("one"),
            two = counter.tell("two"),
            three = counter.tell("three"),
        );
        let reference = reference("it/syntax");
        let (from, to) = (import(&reference), export(&reference, keys));
        let folder = project(&dockerfile);
        let parts = "--build-arg=PARTS=1";
        bench.build("cachex", &[parts, &to], folder.path());
        let counts = counter.take();
        assert!(
            counts.len() == 3 && counts.values().all(|count| *count == 1),
            "{keys}: {counts:?}"
        );

        for tool in ["buildx", "cachex"] {
            let fresh = Bench::new();
            let dest = folder.path().join("result");
            let output = format!("--output=type=local,dest={}", dest.display());
            let progress = fresh.build(tool, &[parts, &from, &output], folder.path());
            assert!(counter.take().is_empty(), "{tool} {keys}\n{progress}");
            let there = ["one", "two", "three"].map(|name| dest.join(name).exists());
            assert_eq!(there, [false, true, true], "{tool} {keys}\n{progress}");
            fs::remove_dir_all(&dest).expect("removed");
        }
    }
}

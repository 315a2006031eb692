//! The command lines that both tools are given.

/// How alike the errors of both tools are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errors {
    /// The texts are the same.
    Same,
    /// Both fail with one exit code, each in its own words.
    OwnWords,
}

pub(super) use Errors::{OwnWords, Same};

/// A Dockerfile and arguments, with blanks between them. In arguments, `IMAGE`, `LOADED` and `OUT` are names of the tool's own; `CTX` is the folder
/// that both build, `HOST` the registry and `BUSYBOX` a base image.
pub(super) type Case = (&'static str, &'static str, Errors);

/// Stages, an argument and a file. What steps say is compared.
const STAGES: &str = "FROM BUSYBOX AS base\nARG WHAT=none\nENV WHAT=$WHAT\nCOPY file /file\n\
     FROM base AS other\nRUN echo SAID other $WHAT\n\
     FROM base AS prod\nLABEL from=dockerfile\nRUN echo SAID $WHAT $(cat /file) | tee /said\nCMD [\"x\"]\n";
/// Files for outputs that are no images.
const FILES: &str = "FROM BUSYBOX AS made\nCOPY file /\nRUN mkdir -p /o/d && echo SAID > /o/d/f && ln -s f /o/d/l && chmod 4711 /o/d/f\n\
     FROM scratch\nCOPY --from=made /o /\n";
/// For any platform. What two platforms shared would be named for one of them by chance.
const BARE: &str =
    "FROM scratch\nARG TARGETARCH\nCOPY file /of-$TARGETARCH\nLABEL of=$TARGETARCH\n";
const WARNED: &str = "FROM scratch as a\nMAINTAINER x\nCOPY file /\n";

/// What steps are run with.
pub(super) const STEPS: [Case; 23] = [
    (
        "FROM BUSYBOX\nRUN echo SAID $(grep here /etc/hosts)\n",
        "--no-cache --add-host=here:1.2.3.4",
        Same,
    ),
    (
        "FROM BUSYBOX\nRUN echo SAID $(ulimit -n) $(df -k /dev/shm | tail -1)\n",
        "--no-cache --ulimit=nofile=100:200 --shm-size=70m",
        Same,
    ),
    (
        "FROM BUSYBOX\nRUN test $(ls /sys/class/net | wc -l) -gt 1; echo SAID $?\n",
        "--no-cache --network=none",
        Same,
    ),
    (
        "FROM BUSYBOX\nRUN test $(ls /sys/class/net | wc -l) -gt 1; echo SAID $?\n",
        "--no-cache --network=host --allow=network.host",
        Same,
    ),
    (
        "FROM BUSYBOX\nRUN --network=host true\n",
        "--no-cache --allow=security.insecure",
        Same,
    ),
    (
        "FROM BUSYBOX\nRUN echo SAID\n",
        "--network=bridge",
        OwnWords,
    ),
    (
        "FROM BUSYBOX\nRUN echo SAID $(cat /proc/self/cgroup | grep -c parity)\n",
        "--no-cache --cgroup-parent=/parity",
        Same,
    ),
    (
        "FROM BUSYBOX\nCOPY --from=more f /\nRUN echo SAID $(cat /f)\n",
        "--no-cache --build-context=more=CTX/more",
        Same,
    ),
    (
        "FROM nosuch\nRUN echo SAID $(id -u)\n",
        "--no-cache --build-context=nosuch=docker-image://BUSYBOX",
        Same,
    ),
    (
        "FROM BUSYBOX\nCOPY --from=more f /\n",
        "--build-context=more=CTX/nosuch",
        OwnWords,
    ),
    (
        "FROM BUSYBOX\nRUN --mount=type=secret,id=s cat /run/secrets/s; echo SAID $(wc -c < /run/secrets/s)\n",
        "--no-cache --secret=id=s,src=CTX/file",
        Same,
    ),
    (
        "FROM BUSYBOX\nRUN --mount=type=secret,id=s,required=true true\n",
        "--no-cache",
        Same,
    ),
    (
        "FROM BUSYBOX\nRUN echo SAID\n",
        "--secret=id=s,src=CTX/nosuch",
        OwnWords,
    ),
    (
        "FROM BUSYBOX\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK; echo SAID $? $SSH_AUTH_SOCK\n",
        "--no-cache --ssh=default=CTX/agent",
        Same,
    ),
    (
        "FROM BUSYBOX\nRUN --mount=type=ssh,required=true true\n",
        "--no-cache",
        Same,
    ),
    (STAGES, "--target=other --no-cache", Same),
    (STAGES, "--target=nosuch", Same),
    (
        STAGES,
        "--no-cache-filter=prod --build-arg=WHAT=given",
        Same,
    ),
    (STAGES, "--pull --target=other", Same),
    (STAGES, "-f CTX/other.Dockerfile --no-cache", Same),
    (STAGES, "--file=CTX/nosuch.Dockerfile", Same),
    (
        "FROM BUSYBOX\nRUN cd /sys/fs/cgroup; echo SAID $(cat memory.max memory/memory.limit_in_bytes 2>/dev/null)\n",
        "--no-cache --resource=memory=300m",
        Same,
    ),
    (
        "FROM BUSYBOX\nRUN echo SAID\n",
        "--no-cache --policy=disabled=true",
        Same,
    ),
];

/// What is made of the result.
pub(super) const RESULTS: [Case; 20] = [
    (STAGES, "", Same),
    (
        STAGES,
        "--push -t IMAGE --label=a=b --build-arg=WHAT=x",
        Same,
    ),
    (
        STAGES,
        "--push --tag=IMAGE --provenance=false --target=other",
        Same,
    ),
    (
        STAGES,
        "-o type=image,name=IMAGE,push=true,oci-mediatypes=true,annotation.k=v --provenance=false",
        Same,
    ),
    (
        BARE,
        "--push -t IMAGE --platform=linux/amd64,linux/arm64 --provenance=mode=max",
        Same,
    ),
    (
        BARE,
        "--push -t IMAGE --platform linux/386 --provenance=false",
        Same,
    ),
    (
        BARE,
        "--push -t IMAGE --annotation=manifest:k=v --annotation=index:i=w",
        Same,
    ),
    (
        BARE,
        "--push -t IMAGE --annotation=index:i=w --provenance=false",
        OwnWords,
    ),
    (
        BARE,
        "--push -t IMAGE --attest=type=provenance,mode=min,version=v1",
        Same,
    ),
    (
        BARE,
        "--push -t IMAGE --attest=type=sbom,disabled=true --sbom=false",
        Same,
    ),
    (
        BARE,
        "--push -t IMAGE --sbom=generator=HOST/no/such:1",
        Same,
    ),
    (STAGES, "--load -t LOADED", Same),
    (
        STAGES,
        "--load -t LOADED --iidfile=OUT/iid --metadata-file=OUT/meta",
        Same,
    ),
    (
        STAGES,
        "--push -t IMAGE --iidfile=OUT/iid --metadata-file=OUT/meta",
        Same,
    ),
    (FILES, "-o OUT/files --provenance=false", Same),
    (
        FILES,
        "--output=type=tar,dest=OUT/files.tar --output=type=oci,dest=OUT/oci.tar,name=x:1 --provenance=false",
        Same,
    ),
    (
        FILES,
        "--output=type=docker,dest=OUT/docker.tar,name=x:1 --provenance=false",
        Same,
    ),
    (FILES, "--iidfile=OUT/iid --output=OUT/files", OwnWords),
    (FILES, "--quiet --load -t LOADED --provenance=false", Same),
    (FILES, "-q --push -t IMAGE --provenance=false", Same),
];

/// Caches, calls, and what is shown.
pub(super) const OTHERS: [Case; 22] = [
    (
        STAGES,
        "--cache-to=type=inline --push -t IMAGE --provenance=false",
        Same,
    ),
    (STAGES, "--cache-to=type=registry,ref=IMAGE,mode=max", Same),
    (STAGES, "--cache-to=type=local,dest=OUT/cache", Same),
    (STAGES, "--cache-to=type=nosuch", OwnWords),
    (
        STAGES,
        "--cache-to=type=gha,url=http://127.0.0.1:1/,token=t",
        Same,
    ),
    (
        STAGES,
        "--cache-from=type=gha,url=http://127.0.0.1:1/,token=t",
        Same,
    ),
    // Without its variables this one is left out.
    (STAGES, "--cache-to=type=gha --cache-from=type=gha", Same),
    (
        STAGES,
        "--cache-to=type=s3,region=r,bucket=b,endpoint_url=http://127.0.0.1:1,access_key_id=a,secret_access_key=b",
        Same,
    ),
    (
        STAGES,
        "--cache-from=type=registry,ref=HOST/no/such:1",
        Same,
    ),
    (STAGES, "--cache-from=HOST/no/such:1", Same),
    (STAGES, "--cache-from=type=local,src=CTX/nosuch", Same),
    (WARNED, "--check", Same),
    (WARNED, "--call=outline", Same),
    (WARNED, "--call=targets,format=json", OwnWords),
    (WARNED, "--call=strange", OwnWords),
    (WARNED, "--progress=quiet", Same),
    (WARNED, "--progress=none", Same),
    (WARNED, "--progress=rawjson", Same),
    (WARNED, "--progress=tty", OwnWords),
    (WARNED, "-D", Same),
    (WARNED, "--debug --progress=plain", Same),
    (WARNED, "--builder=nosuch", Same),
];

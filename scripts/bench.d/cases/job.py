"""A whole job of a CI: a builder is made, an image built and pushed, its cache exported, and the builder removed."""

import os
import shlex

from model import Series, case, label

from .floor import floor

# Dependencies of 200 MB in 15,000 files; tests of them and of the sources in a stage of their own; an application that is
# made of both; and a result that copies from all three.
DOCKERFILE = """\
FROM {base} AS deps
COPY lock install.pl /src/
RUN perl /src/install.pl /deps
FROM deps AS test
COPY src /src/test
RUN {test}
FROM deps AS app
COPY src /src/app
RUN {app}
FROM {base}
COPY --from=deps /deps /deps
COPY --from=test /report /report
COPY --from=app /app /app
"""
# The same time on every processor: what a job's steps compute is nobody's merit.
WORK = "perl -e '1 while (times)[0] + (times)[1] < 1.5'"
TEST = f"find /deps -type f -name '*0.js' | xargs cat /src/test/* | sha256sum >/report; {WORK}"
APP = f"cat /deps/1/*.js /src/app/* >/app; {WORK}"
INSTALL = """\
use strict;
my ($root) = @ARGV;
open(my $lock, '<', '/src/lock') or die; my $seed = <$lock>; srand(hex(substr($seed, 0, 7)));
my @words = map { join '', map { chr(97 + int rand 26) } 1 .. 3 + rand 8 } 1 .. 4000;
mkdir $root or die;
for my $n (0 .. 14999) {
    my $folder = "$root/" . ($n % 300); mkdir $folder;
    my $text = ''; $text .= $words[rand @words] . ' ' while length $text < 1900;
    my @parts = map { my $at = int rand 1500; substr($text, $at, 300) . int(rand 1e9) } 1 .. 42;
    open(my $file, '>', "$folder/$n.js") or die; print $file $text, @parts;
}
"""
# A job of GitLab on the default branch, for --cache REPO.
PIPELINE = {"CI": "true", "GITLAB_CI": "true", "CI_COMMIT_BRANCH": "main", "CI_COMMIT_REF_NAME": "main",
            "CI_DEFAULT_BRANCH": "main", "CI_PIPELINE_SOURCE": "push"}
WAYS = (("buildx", ""), ("cachex", ""), ("cachex", "--cache"))
# The builder goes even where the build fails: the next run makes one of the same name.
SCRIPT = """\
trap '{remove} >&2; mark rm' EXIT
mark() {{ printf '@%s %s\\n' "$1" "$EPOCHREALTIME" >&2; }}
mark begin
{create} >&2
mark boot
{build}
code=$?
mark build
exit $code
"""


def _project(world, host: str):
    base = world.base_at(host)
    folder = world.project(DOCKERFILE.format(base=base, test=TEST, app=APP))
    (folder / "install.pl").write_text(INSTALL)
    (folder / "src").mkdir()
    for number in range(200):
        (folder / "src" / f"{number}.js").write_text(f"// {number}\n" * 500)
    _change(world, folder, "lock")
    return folder


def _change(world, folder, name: str):
    (folder / name).write_text(world.salt() + "\n")


def _builder() -> str:
    return f"bench-job-{os.getpid()}"


def _job(world, client: str, way: str, folder, image: str, cache: str) -> list[str]:
    """The command of a job. `cache` is the repository of the cache."""
    name = _builder()
    create = world.plugin(client, "create", "--name", name, "--driver", "docker-container", "--driver-opt",
                          world.builder_options(), "--bootstrap")
    ref = f"{cache}:cache"
    caches = ["--cache", cache] if way else ["--cache-from", f"type=registry,ref={ref}", "--cache-to",
                                             f"type=registry,ref={ref},mode=max"]
    build = world.plugin(client, "build", "--builder", name, "--progress", "rawjson", "--push", "--tag", image, *caches,
                         str(folder))
    remove = world.plugin(client, "rm", "--force", name)
    lines = SCRIPT.format(**{key: shlex.join(map(str, value)) for key, value in
                             {"create": create, "build": build, "remove": remove}.items()})
    return ["env", *(f"{key}={value}" for key, value in PIPELINE.items()), "bash", "-c", lines]


def _jobs(world, host: str, first: bool):
    folder = _project(world, host)
    # A bench that is broken off in a job leaves its builder.
    world.at_end(world.plugin("buildx", "rm", "--force", _builder()))

    def series(client, way):
        image, cache = world.fresh(host), world.fresh(host).rpartition(":")[0]

        def command():
            if first:
                _change(world, folder, "lock")
                return _job(world, client, way, folder, world.fresh(host), world.fresh(host).rpartition(":")[0])
            _change(world, folder, "src/7.js")
            return _job(world, client, way, folder, image, cache)

        if not first:
            world.quiet(command())
        return Series(label(client, way), command, "job_ms")

    return [series(*way) for way in WAYS]


def _with_floor(world, jobs: list[Series]) -> list[Series]:
    """The jobs, and the least that any of them can take."""
    folder, image = _project(world, world.host), world.fresh()
    world.quiet(_job(world, "buildx", "", folder, image, world.fresh().rpartition(":")[0]))
    return [*jobs, floor(world, image, folder / "src", [TEST, APP])]


ABOUT = "builder made, build with one source file changed, image pushed, cache exported, builder removed"


@case("ci-job", f"a job of a CI: {ABOUT}", cost=220, core=True, needs_line=True, own_builder=True)
def job(world):
    return _with_floor(world, _jobs(world, world.host, first=False))


@case("ci-job-first", "the first job ever", cost=260, core=True, needs_line=True, own_builder=True)
def first_job(world):
    return _jobs(world, world.host, first=True)


@case("ci-job-far", "the job of a CI over 30 ms and 200 Mbit/s, with TLS's round trip and a login", cost=300,
      needs_line=True, own_builder=True)
def far_job(world):
    return _jobs(world, world.registries.login, first=False)


@case("ci-job-first-far", "the first job ever over the same line", cost=350, needs_line=True, own_builder=True)
def far_first_job(world):
    return _jobs(world, world.registries.login, first=True)

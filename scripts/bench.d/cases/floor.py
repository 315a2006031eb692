"""What a CI job takes at least on a machine: the same bytes and the same steps, with nothing that a build tool adds."""

import json
import shlex

from model import FLOOR, Series

# A builder is started; the layers that the steps need are fetched and unpacked once, in memory as the engine's; the two
# steps run beside each other; what they made is compressed and sent.
SCRIPT = """\
set -e
root=$(mktemp -d -p /dev/shm)
clean_up() {{
    docker rm --force --volumes {name} >/dev/null 2>&1
    mark rm
    umount "$root/proc"
    rm -rf "$root"
}}
trap clean_up EXIT
mark() {{ printf '@%s %s\\n' "$1" "$EPOCHREALTIME" >&2; }}
mark begin
docker run --detach --privileged --network host --name {name} {image} >/dev/null
until docker exec {name} buildctl debug workers >/dev/null 2>&1; do sleep 0.02; done
mark boot
for layer in {layers}; do
    curl -sS -f "$layer" | tar -xz -C "$root"
done
mark fetch
mkdir -p "$root/src"
cp -r {sources} "$root/src/test"
cp -r {sources} "$root/src/app"
mount -t proc proc "$root/proc"
pids=()
for step in {steps}; do
    chroot "$root" /bin/sh -c "$step" & pids+=($!)
done
for pid in "${{pids[@]}}"; do wait "$pid"; done
mark steps
tar -cz -C "$root" app report >"$root/last"
digest=$(sha256sum <"$root/last")
place=$(curl -sS -f -X POST -D - -o /dev/null {uploads} | tr -d '\\r' | awk 'tolower($1) == "location:" {{ print $2 }}')
curl -sS -f -T "$root/last" -H 'Content-Type: application/octet-stream' -o /dev/null "$place&digest=sha256:${{digest%% *}}"
mark build
"""


def floor(world, image: str, sources, steps: list[str]) -> Series:
    """The least that a job takes which changes `sources`: `image` is what such a job has pushed, and `steps` are what runs."""
    name = f"bench-floor-{world.salt()}"
    host, _, rest = image.partition("/")
    repository = rest.rpartition(":")[0]
    text = world.quiet(["crane", "manifest", "--insecure", "--platform", "linux/amd64", image])
    # Those of the base and of the dependencies; the last two are what the steps make.
    needed = json.loads(text)["layers"][:-2]
    layers = [f"http://{host}/v2/{repository}/blobs/{layer['digest']}" for layer in needed]
    script = SCRIPT.format(
        name=name, image=world.builder_image(), layers=shlex.join(layers), sources=shlex.quote(str(sources)),
        steps=shlex.join(steps), uploads=shlex.quote(f"http://{host}/v2/{repository}/blobs/uploads/"))
    return Series(FLOOR, lambda: ["bash", "-c", script], "job_ms")

"""A build that has nothing to do."""

from model import Series, case

DOCKERFILE = "FROM {base}\nCOPY . /context\nRUN true\n"
CLIENTS = ("buildx", "cachex")


def _project(world):
    folder = world.project(DOCKERFILE.format(base=world.small_base))
    for number in range(200):
        (folder / str(number)).write_text(str(number))
    return folder


@case("noop", "build of which everything is in the builder's cache")
def noop(world):
    folder = _project(world)
    return [Series(client, lambda _run, client=client: world.build(client, folder)) for client in CLIENTS]


@case("noop-docker", "the same through the docker command line")
def noop_docker(world):
    folder = _project(world)
    return [Series(client, lambda _run, client=client: ["docker", client, *world.build(client, folder)[1:]])
            for client in CLIENTS]


@case("noop-cache", "the same with --cache-from and --cache-to of an unchanged cache")
def noop_cache(world):
    folder = _project(world)

    def series(label, client, options=""):
        ref = world.fresh()
        return Series(label, lambda _run: world.build(
            client, folder, "--cache-from", ref, "--cache-to", f"type=registry,ref={ref},mode=max{options}"))

    return [series("buildx", "buildx"), series("cachex", "cachex"),
            series("cachex via=client", "cachex", ",via=client")]

"""A build that has nothing to do."""

from model import Series, both, case, each_way, label

from .layers import export

DOCKERFILE = "FROM {base}\nCOPY . /context\nRUN true\n"


def _project(world):
    folder = world.project(DOCKERFILE.format(base=world.small_base))
    for number in range(200):
        (folder / str(number)).write_text(str(number))
    return folder


@case("noop", "build of which everything is in the builder's cache", cost=4, core=True)
def noop(world):
    folder = _project(world)
    return each_way(lambda client: world.build(client, folder))


@case("noop-docker", "the same through the docker command line", cost=5, core=True)
def noop_docker(world):
    folder = _project(world)
    return both(lambda client: ["docker", client, *world.build(client, folder)[1:]])


@case("noop-cache", "the same with --cache-from and --cache-to of an unchanged cache", cost=6, core=True)
def noop_cache(world):
    folder = _project(world)

    def series(client, options=""):
        ref = world.fresh()

        def command():
            return export(world, client, folder, ref, options, "--cache-from", ref)

        # The first run makes the cache, the second finds it: each leaves what the next sees.
        for _ in range(2):
            world.quiet(command())
        return Series(label(client, options), command)

    return [series("buildx"), series("cachex"), series("cachex", ",via=client")]

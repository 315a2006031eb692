"""`compression=auto` against gzip, BuildKit's default: a build of two stages that pushes its image, and the import of its cache."""

from model import Series, case, label

from .layers import MEDIUM, arg, export, made

# For each series the client and what it is told of the compression.
WAYS = (("buildx", ""), ("cachex", ""), ("cachex", ",compression=auto"))


def _image(world) -> str:
    return f"type=image,name={world.fresh()},push=true"


@case("auto-export", "cold export of 100 MB with --push of the image, gzip and compression=auto", cost=90)
def auto_export(world):
    folder = world.project(MEDIUM.format(base=world.base, end=""))

    def series(client, options):
        def command():
            salt = made(world, folder)
            return export(world, client, folder, world.fresh(), options, *salt, output=_image(world))

        return Series(label(client, options), command)

    return [series(*way) for way in WAYS]


@case("auto-import", "import of such a cache on an empty builder, last step changed", cost=110)
def auto_import(world):
    folder = world.project(MEDIUM.format(base=world.base, end=""))

    def series(client, options):
        salt, ref = arg("SALT", world.salt()), world.fresh()
        world.prune()
        world.quiet(export(world, client, folder, ref, options, *salt, output=_image(world)))

        def command():
            world.prune()
            changed = arg("LAST", world.salt())
            return world.build(client, folder, "--cache-from", ref, *salt, *changed)

        return Series(label(client, options), command)

    return [series(*way) for way in WAYS]

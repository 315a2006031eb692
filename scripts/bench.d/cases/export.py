"""Cold exports: all steps are done, none has been exported."""

from model import Series, case, label

from .layers import LARGE, MEDIUM, SMALL, cold, export, made

# What cachex is told beside the level of the compression.
PLAIN, AUTO, VIA_CLIENT, COMPRESSOR_CLIENT = "", "compression=auto", "via=client", "compressor=client"
CORE = (PLAIN, AUTO)


def _exports(world, project: str, compression: str, variants):
    folder = world.project(project.format(base=world.base, end=""))

    return [cold(world, folder, "buildx", PLAIN, compression),
            *(cold(world, folder, "cachex", variant, compression, core=variant in CORE) for variant in variants)]


@case("export-gzip", "cold export, mode=max, of 300 MB in 6 steps of 3 stages, gzip", cost=150, core=True)
def gzip(world):
    return _exports(world, LARGE, "", (PLAIN, AUTO, VIA_CLIENT, COMPRESSOR_CLIENT))


@case("export-gzip-9", "cold export of 50 MB, gzip level 9", cost=60)
def gzip_9(world):
    return _exports(world, SMALL, "compression=gzip,compression-level=9", (PLAIN, COMPRESSOR_CLIENT))


@case("export-zstd", "cold export of 50 MB, zstd", cost=50)
def zstd(world):
    return _exports(world, SMALL, "compression=zstd", (PLAIN, VIA_CLIENT, COMPRESSOR_CLIENT))


@case("export-uncompressed", "cold export of 50 MB, uncompressed", cost=40)
def uncompressed(world):
    return _exports(world, SMALL, "compression=uncompressed", (PLAIN, VIA_CLIENT))


def _pushes(world, compression: str):
    folder = world.project(MEDIUM.format(base=world.base, end=""))

    def series(client, variant):
        def command():
            salt = made(world, folder)
            image = f"type=image,name={world.fresh()},push=true{compression}"
            options = f"{compression},{variant}" if variant else compression
            return export(world, client, folder, world.fresh(), options, *salt, output=image)

        return Series(label(client, variant), command, core=variant == PLAIN)

    # compressor=client is refused where an image is made.
    return [series("buildx", PLAIN), series("cachex", PLAIN), series("cachex", VIA_CLIENT)]


@case("push-gzip", "cold export of 100 MB with --push of the image, gzip", cost=70, core=True)
def push_gzip(world):
    return _pushes(world, "")


@case("push-zstd", "cold export of 100 MB with --push of the image, zstd", cost=90)
def push_zstd(world):
    return _pushes(world, ",compression=zstd")

"""Cold exports: all steps are done, none has been exported."""

from model import Series, case

from .layers import LARGE, export, made

# What cachex is told beside the compression.
PLAIN, VIA_CLIENT, COMPRESSOR_CLIENT = "", "via=client", "compressor=client"


def _exports(world, compression: str, variants):
    folder = world.project(LARGE.format(base=world.base))

    def series(client, variant):
        def command(_run):
            salt = made(world, folder)
            options = "".join(f",{option}" for option in (compression, variant) if option)
            return export(world, client, folder, world.fresh(), options, *salt)

        return Series(f"{client} {variant}".strip(), command)

    return [series("buildx", PLAIN), *(series("cachex", variant) for variant in variants)]


@case("export-gzip", "cold export of 300 MB in 6 steps of 3 stages, gzip")
def gzip(world):
    return _exports(world, "", (PLAIN, VIA_CLIENT, COMPRESSOR_CLIENT))


@case("export-gzip-9", "the same, gzip level 9")
def gzip_9(world):
    return _exports(world, "compression=gzip,compression-level=9", (PLAIN, COMPRESSOR_CLIENT))


@case("export-zstd", "the same, zstd")
def zstd(world):
    return _exports(world, "compression=zstd", (PLAIN, VIA_CLIENT, COMPRESSOR_CLIENT))


@case("export-uncompressed", "the same, uncompressed")
def uncompressed(world):
    return _exports(world, "compression=uncompressed", (PLAIN, VIA_CLIENT))


def _pushes(world, compression: str):
    folder = world.project(LARGE.format(base=world.base))

    def series(client, variant):
        def command(_run):
            salt = made(world, folder)
            image = f"type=image,name={world.fresh()},push=true{compression}"
            options = f"{compression},{variant}" if variant else compression
            return export(world, client, folder, world.fresh(), options, *salt, output=image)

        return Series(f"{client} {variant}".strip(), command)

    # compressor=client is refused where an image is made.
    return [series("buildx", PLAIN), series("cachex", PLAIN), series("cachex", VIA_CLIENT)]


@case("push-gzip", "the cold export with --push of the image, gzip")
def push_gzip(world):
    return _pushes(world, "")


@case("push-zstd", "the same, zstd")
def push_zstd(world):
    return _pushes(world, ",compression=zstd")

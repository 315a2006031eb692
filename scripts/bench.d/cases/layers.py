"""Projects with layers of a real system, made anew by every build with another SALT, and their exports."""

from model import Series, label

# Three stages, six steps, of which two copy from the others: 300 MB.
LARGE = """\
FROM {base} AS one
ARG SALT
RUN mkdir /one && cp -a /usr/lib /usr/sbin /one && echo "$SALT 1" >/one/salt
RUN mkdir /share && cp -a /usr/share /share && echo "$SALT 2" >/share/salt
FROM {base} AS two
ARG SALT
RUN mkdir /two && cp -a /usr/lib /usr/bin /two && echo "$SALT 3" >/two/salt
RUN mkdir /rest && cp -a /usr/share /usr/sbin /rest && echo "$SALT 4" >/rest/salt
FROM {base}
COPY --from=one /one /one
COPY --from=two /two /two
"""

# Two stages, five steps: 110 MB, and half of that. What an ARG LAST or MIDDLE changes is small, so that exporting counts.
MEDIUM = """\
FROM {base} AS one
ARG SALT
RUN mkdir /one && cp -a /usr/lib /one && echo "$SALT 1" >/one/salt
FROM {base}
ARG SALT
RUN mkdir /two && cp -a /usr/bin /two && echo "$SALT 2" >/two/salt
ARG MIDDLE
RUN mkdir /middle && cp -a /usr/sbin /middle && echo "$SALT $MIDDLE" >/middle/salt
COPY --from=one /one /one
ARG LAST
RUN echo "$SALT $LAST" >/last{end}
"""

SMALL = MEDIUM.replace("/usr/bin /two", "/usr/sbin /two").replace("/usr/lib", "/usr/bin")

IDLE = " && sleep 4"
# Both cores of a small machine.
BUSY = " && (timeout 2 sha256sum /dev/zero & timeout 2 sha256sum /dev/zero & wait)"

# The same amount of work however slow the machine is, some seconds.
WORK = " && for n in 1 2; do head -c 512M /dev/zero | sha256sum >/dev/null & done; wait"


def export(world, client: str, folder, ref: str, options: str = "", *args: str, **kinds) -> list[str]:
    """A build with a registry cache of mode=max."""
    to = f"type=registry,ref={ref},mode=max{options}"
    return world.build(client, folder, "--cache-to", to, *args, **kinds)


def arg(name: str, value: str) -> tuple[str, str]:
    return "--build-arg", f"{name}={value}"


def made(world, folder) -> tuple[str, str]:
    """Steps that are done and were never exported, in a builder without others; returns the argument that finds them."""
    salt = arg("SALT", world.salt())
    world.prune_results()
    world.quiet(world.build("buildx", folder, *salt))
    return salt


def cold(world, folder, client: str, variant: str = "", compression: str = "", host: str | None = None,
         core: bool = True) -> Series:
    """The series of cold exports of a project: all steps are done, none has been exported."""
    options = "".join(f",{option}" for option in (compression, variant) if option)

    def command():
        salt = made(world, folder)
        return export(world, client, folder, world.fresh(host), options, *salt)

    return Series(label(client, variant), command, core=core)

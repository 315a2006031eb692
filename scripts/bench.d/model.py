"""What a case is made of, and how its figures are summed up."""

import statistics
from dataclasses import dataclass, field
from functools import partial
from typing import Callable

PEER = "buildx"
FLOOR = "floor"  # no client: what the machine needs for the same work
ARCHIVER = "tar"  # no client: where the work is that of an archive
CLIENTS = (PEER, "cachex")
NAMES = ("wall_ms", "steps_ms", "tail_ms", "job_ms", "mount_ms", "cpu_ms", "builder_cpu_ms", "peak_mib", "requests", "up_mb",
         "down_mb", "packages_mb")


class Failed(Exception):
    """The bench cannot go on."""


@dataclass
class Series:
    """One side of a comparison: the same command, run after run.

    `command` makes ready whatever the run needs (that is not timed) and returns the arguments of the command that is.
    """

    label: str
    command: Callable[[], list[str]]
    # The value that is compared; tail_ms: after the last step, steps_ms: until its end, job_ms: a job whose phases are told,
    # mount_ms: a cache mount on its way.
    figure: str = "wall_ms"
    core: bool = True  # measured also where no case is named
    samples: list[dict] = field(default_factory=list)

    @property
    def client(self) -> str:
        return self.label.partition(" ")[0]

    def values(self, name: str) -> list[float]:
        return [sample[name] for sample in self.samples if sample.get(name) is not None]

    def median(self, name: str) -> float | None:
        values = self.values(name)
        return statistics.median(values) if values else None

    def summary(self, peer: "Series | None") -> dict:
        """The object of this series in the JSON file."""
        names = (*NAMES, *(name for name in self.samples[0] if name.endswith("_phase_ms")))
        ours, theirs = self.median(self.figure), peer.median(peer.figure) if peer else None
        return {
            "label": self.label,
            "runs": len(self.samples),
            "figure": self.figure,
            "median": {name: self.median(name) for name in names if self.values(name)},
            "range": {name: [min(self.values(name)), max(self.values(name))] for name in names if self.values(name)},
            "ratio": ours / theirs if ours is not None and theirs else None,
            "samples": self.samples,
        }


def label(client: str, options: str = "") -> str:
    """The name of a series: the client, and what it is told beside that."""
    return f"{client} {options.strip(',')}".strip()


def both(command: Callable[[str], list[str]]) -> list[Series]:
    """One series a client, of the command that `command` returns for it."""
    return [Series(client, partial(command, client)) for client in CLIENTS]


def each_way(command: Callable[[str], list[str]], core: bool = True) -> list[Series]:
    """The same, and cachex as it is for users who may not enter the builder's container."""
    engine = "CACHEX_DIRECT=0"
    return [*both(command), Series(label("cachex", engine), lambda: ["env", engine, *command("cachex")], core=core)]


@dataclass(frozen=True)
class Case:
    """A case by its name. `make` prepares it in a world and returns its series, the peer first.

    `cost` is about how many seconds five runs take on two idle cores: its share of a bench that must end in time. `core`
    cases are measured where none is named: each kind of work, and all that the targets are set for.
    """

    name: str
    about: str
    make: Callable
    cost: float
    needs_line: bool  # a registry that the bench can stand before
    core: bool
    own_builder: bool  # makes builders of its own, in the rig


CASES: dict[str, Case] = {}


def case(name: str, about: str, cost: float, needs_line: bool = False, core: bool = False,
         own_builder: bool = False):
    """Puts a function into the list of cases."""

    def register(make):
        CASES[name] = Case(name, about, make, cost, needs_line, core, own_builder)
        return make

    return register

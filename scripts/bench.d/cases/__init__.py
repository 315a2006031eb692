"""The cases, in the order of the table: each file adds its own to `model.CASES` in this order."""

from . import (job, start, noop, context, export, auto, tail, incremental, fresh, far, growth, explain, report, mounts,  # noqa: F401
               tools, buildah)

"""The keys of `feature.fs` that say how the pod's mounted tree behaves, as the relay takes them."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import EXIT_USAGE, UsageError
from . import schema

# mirrord's limits for its buffer. Here only 0 means something, which is that nothing is read ahead.
_BUFFER_WARNED_BYTES = 1024 * 1024
_BUFFER_MOST_BYTES = 15 * 1024 * 1024


@dataclass(frozen=True)
class FileSystemConfig:
    """How the pod's tree behaves once it is mounted.

    `write_behind`: write(2) does not wait for the pod, failures come at fsync(2) and close(2). `attribute_s`,
    `negative_s`: for how long attributes, and names that do not exist, are taken from memory. `fuse`: "auto" mounts
    where that is possible, "on" insists, "off" never does (files are then copies for reading).
    """

    write_behind: bool = True
    attribute_s: float = 1.0
    negative_s: float = 1.0
    read_ahead: bool = True
    fuse: str = "auto"


def read_file_system(fs: schema.Fs, from_pod: bool, warnings: list[str]) -> FileSystemConfig:
    """UsageError for what cannot be; a line in `warnings` for what will not happen."""
    size_bytes = fs.readonly_file_buffer
    if size_bytes is not None and not 0 <= size_bytes <= _BUFFER_MOST_BYTES:
        raise _refused(f"feature.fs.readonly_file_buffer: expected 0 to {_BUFFER_MOST_BYTES} bytes")
    if size_bytes is not None and size_bytes > _BUFFER_WARNED_BYTES:
        warnings.append("feature.fs.readonly_file_buffer is above 1 MiB: how much is read ahead is chosen by this tool")
    fuse = fs.fuse or "auto"
    if from_pod and fuse == "off":
        raise _refused("--from-pod runs a program of the pod's mounted tree: it needs feature.fs.fuse auto or on")
    return FileSystemConfig(
        write_behind=schema.default(fs.write_behind, True),
        attribute_s=_seconds("attribute_seconds", fs.attribute_seconds),
        negative_s=_seconds("negative_seconds", fs.negative_seconds),
        read_ahead=size_bytes != 0,
        fuse="on" if from_pod else fuse,
    )


def _seconds(key: str, value: float | None) -> float:
    if value is None:
        return 1.0
    if not 0 <= value < float("inf"):
        raise _refused(f"feature.fs.{key}: expected seconds, 0 or more")
    return float(value)


def _refused(text: str) -> UsageError:
    return UsageError(text, EXIT_USAGE)

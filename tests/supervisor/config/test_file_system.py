from __future__ import annotations

import pytest
from mirrord_trace.supervisor.config import schema
from mirrord_trace.supervisor.config.file_system import FileSystemConfig, read_file_system
from mirrord_trace.supervisor.errors import EXIT_USAGE, UsageError

_MIB = 1024 * 1024


def read(*, from_pod: bool = False, **keys: object) -> tuple[FileSystemConfig, list[str]]:
    warnings: list[str] = []
    return read_file_system(schema.Fs(**keys), from_pod, warnings), warnings  # type: ignore[arg-type]


def test_the_defaults() -> None:
    assert read() == (FileSystemConfig(True, 1.0, 1.0, True, "auto"), [])


def test_every_key() -> None:
    keys = {"write_behind": False, "attribute_seconds": 0, "negative_seconds": 2.5, "readonly_file_buffer": 0, "fuse": "on"}
    assert read(**keys) == (FileSystemConfig(False, 0.0, 2.5, False, "on"), [])


@pytest.mark.parametrize("size_bytes", [1, 128000, _MIB])
def test_any_buffer_is_read_ahead(size_bytes: int) -> None:
    config, warnings = read(readonly_file_buffer=size_bytes)
    assert (config.read_ahead, warnings) == (True, [])


@pytest.mark.parametrize("size_bytes", [_MIB + 1, 15 * _MIB])
def test_a_large_buffer_gives_a_warning(size_bytes: int) -> None:
    config, (warning,) = read(readonly_file_buffer=size_bytes)
    assert config.read_ahead
    assert warning.startswith("feature.fs.readonly_file_buffer is above 1 MiB")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("readonly_file_buffer", value) for value in (-1, 15 * _MIB + 1)),
        *((key, value) for key in ("attribute_seconds", "negative_seconds") for value in (-0.1, float("inf"), float("nan"))),
    ],
)
def test_what_is_refused(key: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"^feature.fs.{key}: expected ") as refused:
        read(**{key: value})
    assert refused.value.exit_status == EXIT_USAGE


def test_the_pods_own_program_needs_the_mounted_tree() -> None:
    assert read(from_pod=True)[0].fuse == read(from_pod=True, fuse="on")[0].fuse == "on"
    with pytest.raises(UsageError, match=r"--from-pod .* feature\.fs\.fuse"):
        read(from_pod=True, fuse="off")

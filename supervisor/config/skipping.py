"""Which programs are not supervised: `skip_processes`, `skip_build_tools`, `skip_extra_build_tools`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from . import schema

BUILD_TOOLS = (
    "as", "cc", "ld", "go", "air", "asm", "cc1", "cgo", "dlv", "gcc", "git", "link", "math", "cargo", "clang", "hpack",
    "rustc", "compile", "collect2", "bazel-real", "cargo-watch", "debugserver", "jspawnhelper",
)  # fmt: skip
"""mirrord's list."""


def read_skipping(root: schema.Root) -> Mapping[bytes, str]:
    """File name of a program -> the key by which it is skipped."""
    skipped: dict[bytes, str] = {}
    if schema.default(root.skip_build_tools, True):
        skipped.update((_name(tool), "skip_build_tools") for tool in BUILD_TOOLS)
        skipped.update((_name(tool), "skip_extra_build_tools") for tool in schema.listed(root.skip_extra_build_tools))
    skipped.update((_name(name), "skip_processes") for name in schema.listed(root.skip_processes))
    skipped.pop(b"", None)
    return MappingProxyType(skipped)


def _name(text: str) -> bytes:
    return text.strip().encode("utf-8", "surrogateescape")

"""struct new_utsname of uname(2): six fields of 65 bytes, the same on every machine."""

from __future__ import annotations

FIELD_BYTES = 65
NODENAME_AT = FIELD_BYTES
"""sysname comes first, nodename second."""


def pack_field(value: bytes) -> bytes:
    """One field: at most 64 bytes (the kernel's __NEW_UTS_LEN), filled up with NULs."""
    return value[: FIELD_BYTES - 1].ljust(FIELD_BYTES, b"\0")

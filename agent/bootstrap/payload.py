"""The client's half of the bootstrap: the archive with the agent's code, and the exchange that delivers it.

The archive holds the package `mirrord_trace.agent` as it is installed here, and the pure-Python part of the libraries it
needs as they are installed here (msgpack; h11 and h2 with what that needs), so client and agent always speak the same
version. It is the same bytes for the same files.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import importlib.util
import io
import os
import re
import struct
import zipfile
from pathlib import Path
from typing import Iterator, List, Tuple

from ..options import Options
from ..wire.errors import RemoteProtocolError

ENVIRONMENT_VARIABLE = "MIRRORD_TRACE_BOOT"
BOOT_SECRET_BYTES = 32

_AGENT = Path(__file__).resolve().parent.parent
_PACKAGE = "mirrord_trace/agent"
_OPTIONS = _PACKAGE + "/options.json"
_CLIENT_ONLY = frozenset(("bootstrap/payload.py",))
_LIBRARIES = ("h11", "h2", "hpack", "hyperframe", "msgpack")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MAGIC = b"MTBOOT1\n"
_NONCE_BYTES = 32
_MAC_BYTES = 32


def loader_source() -> str:
    """The program for `python3 -c` in the pod (see loader.py), in about 1.5 kB."""
    source = _AGENT.joinpath("bootstrap", "loader.py").read_text("utf-8")
    body = source[source.index("# -- begin\n") + len("# -- begin\n") : source.index("# -- end\n")]
    return re.sub(r"^( +)", lambda match: " " * (len(match[1]) // 4), body, flags=re.MULTILINE)


def command(python: str = "python3") -> List[str]:
    """The container's command: isolated from the image's site-packages and environment, unbuffered."""
    return [python, "-IuSc", loader_source()]


def environment(where: str, secret: bytes) -> Tuple[str, str]:
    """Name and value of the variable that the loader reads; `where` is a port number or "fd:N"."""
    return ENVIRONMENT_VARIABLE, f"{where}:{secret.hex()}"


def build(options: Options) -> bytes:
    """The archive to send: code and options."""
    buffer = io.BytesIO(_code_archive())
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a") as archive:
        _write(archive, _OPTIONS, options.encode())
    return buffer.getvalue()


class BootClient:
    """The client's side of the exchange, without I/O: send what `output` returns, give what comes to `receive`.

    `done`: when `output` has been sent to the end, the transport belongs to the protocol of agent/wire.
    RemoteProtocolError: the other end is not our loader.
    """

    def __init__(self, secret: bytes, payload: bytes) -> None:
        self.done = False
        self._secret = secret
        self._payload = payload
        self._nonce = os.urandom(_NONCE_BYTES)
        self._input = b""
        self._output = self._nonce

    def output(self) -> bytes:
        """What is to be sent now; each byte is returned once."""
        data, self._output = self._output, b""
        return data

    def receive(self, data: bytes) -> None:
        """Bytes from the loader, cut anywhere."""
        if self.done:
            raise RemoteProtocolError("the loader spoke out of turn")
        self._input += data
        size = len(_MAGIC) + _NONCE_BYTES + _MAC_BYTES
        start = self._input[: len(_MAGIC)]
        if start != _MAGIC[: len(start)] or len(self._input) > size:
            raise RemoteProtocolError("this is not mirrord-trace's agent")
        if len(self._input) == size:
            self._answer(self._input[len(_MAGIC) : -_MAC_BYTES], self._input[-_MAC_BYTES:])

    def _answer(self, nonce: bytes, proof: bytes) -> None:
        if not hmac.compare_digest(proof, self._mac(b"loader", nonce)):
            raise RemoteProtocolError("the agent does not know the boot secret: another process has its port")
        said = hashlib.sha256(self._payload).digest() + struct.pack("!I", len(self._payload))
        self._output += said + self._mac(b"client", nonce + said) + self._payload
        self.done = True

    def _mac(self, label: bytes, said: bytes) -> bytes:
        return hmac.new(self._secret, label + self._nonce + said, hashlib.sha256).digest()


@functools.lru_cache(maxsize=None)
def _code_archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        _write(archive, "mirrord_trace/__init__.py", b"")
        for name, path in _sources():
            _write(archive, name, path.read_bytes())
    return buffer.getvalue()


def _sources() -> Iterator[Tuple[str, Path]]:
    for path in sorted(_AGENT.rglob("*.py")):
        relative = path.relative_to(_AGENT).as_posix()
        if relative not in _CLIENT_ONLY:
            yield f"{_PACKAGE}/{relative}", path
    for library in _LIBRARIES:
        # Found, not imported: h2 alone takes some 50 ms.
        found = importlib.util.find_spec(library)
        if found is None or found.origin is None:
            raise ModuleNotFoundError(f"{library}, which the agent needs, is not installed", name=library)
        for path in sorted(Path(found.origin).resolve().parent.glob("*.py")):
            yield f"{library}/{path.name}", path


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # Without times, so that equal files make equal archives.
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)

"""Certificate and key for TLS that is ended here: files of the pod, named by the user or searched.

Searched is where Kubernetes mounts secrets of the type kubernetes.io/tls: `tls.crt` and `tls.key` at the top of one of the
target's mounts. If there are several, the name that the peer asks for (SNI) decides.

All paths are resolved within the target's root (root.py). What was read is held in memory files, since the ssl module takes
paths only, and a secret may be replaced or the target end meanwhile.
"""

from __future__ import annotations

import errno
import os
import re
import ssl
from typing import Dict, Iterator, List, Optional, Tuple

from ..http.rules import Tls
from ..http.tls import server_context
from ..target import Target

_CERTIFICATE, _KEY = b"tls.crt", b"tls.key"
_MOST_BYTES = 1 << 20
_MOST_FOUND = 64
_ESCAPE = re.compile(rb"\\([0-7]{3})")
# A name in a certificate: the tag of subjectAltName's dNSName, a length, the name.
_DNS_NAME_TAG = b"\x82"


class _Pair:
    # One certificate with its key, and the contexts made of it.
    def __init__(self, certificate: bytes, key: bytes) -> None:
        self._fds = [_memory_file(certificate), _memory_file(key)]
        self._der = _first_certificate(certificate)
        self._contexts: Dict[Tuple[str, ...], ssl.SSLContext] = {}

    def context(self, protocols: Tuple[str, ...]) -> ssl.SSLContext:
        if protocols not in self._contexts:
            paths = [f"/proc/self/fd/{fd}" for fd in self._fds]
            self._contexts[protocols] = server_context(paths[0], paths[1], protocols)
        return self._contexts[protocols]

    def is_for(self, name: str) -> bool:
        try:
            wanted = name.lower().encode("ascii")
        except UnicodeEncodeError:
            return False
        names = (wanted, b"*." + wanted.partition(b".")[2])
        return any(_DNS_NAME_TAG + bytes([len(each)]) + each in self._der.lower() for each in names if 0 < len(each) < 128)

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)


class Certificates:
    """Of one subscription. Read when made, which may block; OSError: has a text for the user."""

    def __init__(self, target: Target, tls: Tls) -> None:
        self._pairs: List[_Pair] = []
        try:
            self._read(target, tls)
        except BaseException:
            self.close()
            raise

    def context_for(self, server_name: str, protocols: Tuple[str, ...]) -> Optional[ssl.SSLContext]:
        """http.tls.ServerContextFor."""
        if not self._pairs:
            return None
        fitting = [pair for pair in self._pairs if pair.is_for(server_name)]
        return (fitting or self._pairs)[0].context(protocols)

    def close(self) -> None:
        """Forget them."""
        for pair in self._pairs:
            pair.close()
        self._pairs.clear()

    def _read(self, target: Target, tls: Tls) -> None:
        if tls.certificate:
            self._add(target, os.fsencode(tls.certificate), os.fsencode(tls.key or tls.certificate))
            return
        for folder in _mounts(target.pid):
            paths = [os.path.join(folder, name) for name in (_CERTIFICATE, _KEY)]
            try:
                self._add(target, paths[0], paths[1])
            except OSError:
                continue  # not such a secret, or not to be used; another may be
            if len(self._pairs) >= _MOST_FOUND:
                break
        if not self._pairs:
            raise OSError(
                errno.ENOENT,
                "no certificate for TLS was found in the pod: none of its mounts has tls.crt and tls.key that fit; "
                "name the files by tls.certificate and tls.key",
            )

    def _add(self, target: Target, certificate: bytes, key: bytes) -> None:
        pair = _Pair(_content(target, certificate), _content(target, key))
        self._pairs.append(pair)
        try:
            pair.context(())
        except (OSError, ValueError) as error:
            self._pairs.remove(pair)
            pair.close()
            what = f"{os.fsdecode(certificate)} and {os.fsdecode(key)}"
            raise OSError(errno.EINVAL, f"the certificate and key in {what} cannot be used: {error}") from error


def _content(target: Target, path: bytes) -> bytes:
    try:
        found = target.root.open_path(path)
        try:
            fd = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        finally:
            os.close(found)
        with open(fd, "rb") as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise OSError(error.errno or errno.EIO, f"cannot read {os.fsdecode(path)} in the pod: {error.strerror}") from error


def _memory_file(content: bytes) -> int:
    fd = os.memfd_create("pem", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(content)
    return fd


def _first_certificate(pem: bytes) -> bytes:
    match = re.search(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", pem, re.DOTALL)
    try:
        return ssl.PEM_cert_to_DER_cert(match.group().decode("ascii")) if match is not None else b""
    except ValueError:
        return b""


# Where the target has something mounted (proc(5): mountinfo), the pod's own file systems last of all.
def _mounts(pid: int) -> Iterator[bytes]:
    try:
        with open(f"/proc/{pid}/mountinfo", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split(b" ")
        if len(fields) > 4:
            path = _ESCAPE.sub(lambda match: bytes([int(match.group(1), 8)]), fields[4])
            if not path.startswith((b"/proc", b"/sys", b"/dev")):
                yield path

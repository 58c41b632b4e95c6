"""uname(2)."""

from __future__ import annotations

import errno

from mirrord_trace.syscalls.actions import Reason
from mirrord_trace.syscalls.process import uname
from script import Script, session


def test_nodename_is_the_pods() -> None:
    script = Script(uname, (0x2000,)).runs().gets(0)
    script.returns(0, {0x2000 + 65: b"pod-7f9c".ljust(65, b"\0")}, Reason.POD_HOSTNAME)


def test_a_bad_buffer_is_the_kernels_to_judge() -> None:
    Script(uname, (0,)).runs().gets(-errno.EFAULT).keeps()


def test_local_hostname_stops_once() -> None:
    Script(uname, (0x2000,), context=session(pod_hostname=False)).continues(Reason.HOSTNAME_OFF)

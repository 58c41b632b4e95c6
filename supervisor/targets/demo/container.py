"""The pod's container process: process 1 of its pid namespace, its root the demo's tree, serving HTTP and echo.

It has the pod's environment because the interpreter was started with it (/proc/PID/environ shows what exec got).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from . import kernel, network, rootfs, services

NAME = "I am the pod"


def run(separate: bool, has_ipv6: bool, link_arrived: int, tell: Callable[[str], None]) -> None:
    """Become the container; tells "serving" when everything answers, and never returns.

    `separate`: take an own network namespace, tell "network", and go on when a byte on `link_arrived` says that the
    link has been moved into it.
    """
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC)
    if separate:
        kernel.unshare(kernel.CLONE_NEWNET)
        tell("network")
        if not os.read(link_arrived, 1):
            raise OSError("the link to the cluster did not arrive")
        has_ipv6 = network.set_up_pod()
    rootfs.become_root()
    _serve(separate, has_ipv6)
    tell("serving")
    threading.Event().wait()


# In a shared namespace the services have port 80 at their own addresses, so the pod takes it only at its own.
def _serve(separate: bool, has_ipv6: bool) -> None:
    own = network.POD[: 1 + has_ipv6]
    everywhere = ("::" if has_ipv6 else "0.0.0.0",)
    for address in everywhere if separate else own:
        for port in (network.HTTP_PORT, network.SECOND_HTTP_PORT):
            services.serve_tcp(services.listen(address, port), services.http(NAME))
    for address in own:
        services.serve_tcp(services.listen(address, network.ECHO_PORT), services.echo)
        services.serve_udp(address, network.ECHO_PORT, services.same)

"""The rest of the demo's cluster, beside the pod: DNS, the greeter, echo and an address that never answers."""

from __future__ import annotations

import threading
from collections.abc import Callable

from . import network, services

GREETER_NAME = "hello from the greeter"


def run(has_ipv6: bool, tell: Callable[[str], None]) -> None:
    """Serve in the network namespace of the caller; tells "serving" when everything answers, and never returns."""
    versions = 1 + has_ipv6
    silent = []
    for address in network.GREETER[:versions]:
        services.serve_tcp(services.listen(address, network.HTTP_PORT), services.http(GREETER_NAME))
    for address in network.ECHO[:versions]:
        services.serve_tcp(services.listen(address, network.ECHO_PORT), services.echo)
        services.serve_udp(address, network.ECHO_PORT, services.same)
    for address in network.DNS[:versions]:
        services.serve_tcp(services.listen(address, network.DNS_PORT), services.dns_over_tcp)
        services.serve_udp(address, network.DNS_PORT, services.dns_over_udp)
    for address in network.BLACK_HOLE[:versions]:
        silent += services.never_answer(address, network.HTTP_PORT)
    tell("serving")
    threading.Event().wait()

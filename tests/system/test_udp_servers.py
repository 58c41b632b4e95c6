"""A local UDP server takes over the pod's port while it has it bound, and answers from there."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest
from build import c_program
from mirrord_trace.supervisor.targets.demo import network
from runs import Runner, until

_PYTHON = """
import asyncio, signal, sys
class Answers(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
    def datagram_received(self, content, peer):
        self.transport.sendto(b"asyncio: %s: %s" % (peer[0].encode(), content), peer)
async def main():
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Answers, ("0.0.0.0", int(sys.argv[1])))
    print("ready", flush=True)
    end = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, end.set)
    await end.wait()
asyncio.run(main())
"""


@pytest.fixture
def port() -> int:
    """A UDP port that is free on this machine, and by all likelihood in the pod."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _ask(runner: Runner, port: int, content: str, host: str = network.POD[0], *, in_pod: bool = False) -> str:
    """What the pod's port answers, "" if nothing; only an answer from that very port counts."""
    is_ipv6 = ":" in host
    with runner.pod.open_socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM, in_pod=in_pod) as sock:
        sock.settimeout(0.5)
        if not in_pod:
            sock.bind((network.CLIENT[is_ipv6], 0))
        try:
            sock.connect((host, port))
            sock.send(content.encode())
            return sock.recv(4096).decode()
        except OSError:
            return ""


@pytest.mark.parametrize("how", ["names", "messages", "connected"])
@pytest.mark.parametrize("flavour", ["glibc", "static"])
def test_questions_are_answered_from_the_pods_port(runner: Runner, how: str, flavour: str, port: int) -> None:
    with runner.serving(c_program("answers", flavour), how, str(port), options=["--steal"]):
        until(lambda: _ask(runner, port, "one") == f"{how}: {network.CLIENT[0]}: one", "the local program answers")
        for number in range(5):
            assert _ask(runner, port, str(number)) == f"{how}: {network.CLIENT[0]}: {number}"
        assert _ask(runner, port, "inside", in_pod=True).endswith(": inside")
    until(lambda: not _ask(runner, port, "two"), "the pod has the port back")


def test_ipv6(runner: Runner, port: int) -> None:
    with runner.serving(c_program("answers"), "names", str(port), "::", options=["--steal"]):
        until(
            lambda: _ask(runner, port, "six", network.POD[1]) == f"names: {network.CLIENT[1]}: six",
            "the local program answers over IPv6",
        )
        assert _ask(runner, port, "four") == f"names: ::ffff:{network.CLIENT[0]}: four"


def test_an_asyncio_server(runner: Runner, port: int) -> None:
    with runner.serving(sys.executable, "-c", _PYTHON, str(port), options=["--steal"]):
        until(lambda: _ask(runner, port, "one") == f"asyncio: {network.CLIENT[0]}: one", "the local program answers")
        # Whoever asks on this machine is answered here.
        with socket.socket(type=socket.SOCK_DGRAM) as direct:
            direct.settimeout(10)
            direct.connect(("127.0.0.1", port))
            direct.send(b"direct")
            assert direct.recv(4096) == b"asyncio: 127.0.0.1: direct"


def test_a_privileged_port_as_any_user(runner: Runner) -> None:
    with runner.serving(c_program("answers"), "names", "69", options=["--steal"]):
        until(lambda: _ask(runner, 69, "one") == f"names: {network.CLIENT[0]}: one", "the local program answers")


@pytest.mark.parametrize("what", ["ignore_ports", "mode"])
def test_ports_that_stay_the_pods(runner: Runner, port: int, what: str) -> None:
    config = Path(runner.folder, "incoming.json")
    value = {"ignore_ports": [port], "mode": "off"}[what]
    config.write_text(json.dumps({"feature": {"network": {"incoming": {"mode": "steal", what: value}}}}))
    with runner.serving(c_program("answers"), "names", str(port), options=["-f", config]):
        assert not _ask(runner, port, "one")

"""UDP under supervision: connected or not, by every call, with the right addresses."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import pytest
from build import FLAVOURS, CannotBuild, c_program, go_module
from mirrord_trace.supervisor.targets.demo import network, services
from neighbours import in_network
from runs import Runner


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_local_datagrams_are_as_without_supervision(runner: Runner, flavour: str, unused_udp_port: int) -> None:
    services.serve_udp("127.0.0.1", unused_udp_port, services.same)
    command = (c_program("udp", flavour), "127.0.0.1", str(unused_udp_port), "1")
    native = runner.native(*command)
    local = runner.local(*command)
    assert native.status == 0, native
    assert (local.status, local.out) == (native.status, native.out), local.err


@pytest.mark.parametrize("version", [0, 1], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_pod_datagrams_are_as_for_a_process_of_the_pod(runner: Runner, flavour: str, version: int) -> None:
    arguments = (network.ECHO[version], str(network.ECHO_PORT), str(network.REFUSED_PORT))
    inside = runner.inside(c_program("udp", "static" if flavour == "glibc" else flavour), *arguments)
    traced = runner.traced(c_program("udp", flavour), *arguments)
    assert inside.status == 0, inside
    assert (traced.status, traced.out) == (inside.status, inside.out), traced.err


@pytest.mark.parametrize("version", [0, 1], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_batches_refusals_segments_and_the_rest(runner: Runner, flavour: str, version: int) -> None:
    arguments = (network.ECHO[version], str(network.ECHO_PORT), str(network.REFUSED_PORT), network.DNS[version])
    inside = runner.inside(c_program("datagrams", "static" if flavour == "glibc" else flavour), *arguments)
    traced = runner.traced(c_program("datagrams", flavour), *arguments)
    assert inside.status == 0, inside
    assert (traced.status, traced.out) == (inside.status, inside.out), traced.err


def test_quic(runner: Runner) -> None:
    try:
        program = go_module("quicpair")
    except CannotBuild as error:
        pytest.skip(f"quic-go is not to be had: {str(error).splitlines()[-1]}")
    serve = in_network(runner.pod, program, "serve", "[::]:4433")
    with subprocess.Popen(serve, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == "ready\n"
            for host in (network.POD[0], f"[{network.POD[1]}]"):
                traced = runner.traced(program, "ask", f"{host}:4433", "1000000")
                expected = f"peer {host}:4433\nright [true true true true]\n"
                assert (traced.status, traced.out) == (0, expected), traced
        finally:
            server.kill()


_PING = """
import socket, struct, sys
version6 = ":" in sys.argv[1]
family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if version6 else (socket.AF_INET, socket.IPPROTO_ICMP)
ping = socket.socket(family, socket.SOCK_DGRAM, protocol)
ping.settimeout(10)
for number in range(3):
    ping.sendto(struct.pack(">BBHHH", 128 if version6 else 8, 0, 0, 0, number) + b"payload", (sys.argv[1], 0))
    message, sender = ping.recvfrom(1000)
    kind, code, _, identifier, sequence = struct.unpack_from(">BBHHH", message)
    print(kind, code, identifier == ping.getsockname()[1], sequence, message[8:].decode(), sender[:2])
"""


@pytest.mark.parametrize("version", [0, 1], ids=["ipv4", "ipv6"])
def test_echo_sockets_of_the_pod(runner: Runner, version: int) -> None:
    traced = runner.traced(sys.executable, "-c", _PING, network.ECHO[version])
    if "does not allow ICMP echo sockets" in traced.err:
        pytest.skip("net.ipv4.ping_group_range cannot be set in the demo pod here")
    expected = [f"{0 if version == 0 else 129} 0 True {number} payload {(network.ECHO[version], 0)}" for number in range(3)]
    assert (traced.status, traced.out.splitlines()) == (0, expected), traced.err


_NTP = """
import socket, struct, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(10)
client.connect((sys.argv[1], int(sys.argv[2])))
client.send(b"\\x1b" + bytes(39) + struct.pack(">II", 3900000000, 7))
answer = client.recv(48)
mode, stratum = answer[0] & 7, answer[1]
print(mode, stratum, struct.unpack_from(">II", answer, 24) == (3900000000, 7), len(answer))
"""


def test_an_exchange_as_of_ntp(runner: Runner) -> None:
    with runner.pod.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((network.GREETER[0], 0))
        server.settimeout(30)

        def answer() -> None:
            request, peer = server.recvfrom(100)
            peers.append(peer[0])
            server.sendto(b"\x1c\x02" + bytes(22) + request[40:48] + bytes(16), peer)

        peers: list[str] = []
        thread = threading.Thread(target=answer)
        thread.start()
        traced = runner.traced(sys.executable, "-c", _NTP, network.GREETER[0], str(server.getsockname()[1]))
        thread.join()
    assert (traced.status, traced.out) == (0, "4 2 True 48\n"), traced.err
    assert peers == [network.POD[0]]

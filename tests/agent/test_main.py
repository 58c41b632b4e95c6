"""The whole agent: start, session, and above all its end, in every way it can come."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal

import pytest
from mirrord_trace.agent import claims
from mirrord_trace.agent.wire.errors import RemoteProtocolError
from mirrord_trace.agent.wire.handshake import ClientHandshake
from mirrord_trace.agent.wire.messages import Bye, Done, Failed, GetPod, OpenFile, Pod, Stat, Subscribe, SubscribeUdp


def wait_for_end(pid_fd):
    assert select.select([pid_fd], [], [], 20)[0], "the process lives on"
    os.close(pid_fd)


# One of each kind: every layer has a table of its own.
def steal(pod, start_agent, where="fd"):
    agent, client = start_agent(where, pid=pod.pid)
    assert client.ask(Subscribe(8080, False, "", False)) == Done()
    assert client.ask(Subscribe(8081, True, "", False)) == Done()
    assert client.ask(Subscribe(8082, False, '{"filter": {"path": "x"}}', False)) == Done()
    stream = client.session.new_stream()
    client.session.datagrams(stream, lambda datagram: None, lambda code: None)
    assert client.ask(SubscribeUdp(8083, False, stream)) == Done()
    assert pod.ruleset().count("table inet mirrord_trace_") == 4
    return agent, client


def test_an_agent_serves_a_process_in_other_namespaces_until_bye(pod, start_agent):
    agent, client = steal(pod, start_agent)
    answer = client.ask(GetPod())
    assert isinstance(answer, Pod), answer
    assert answer.hostname == b"the-pod"
    client.session.close("enough")
    client.until(lambda: client.session.closed)
    assert agent.wait() == 0
    assert pod.ruleset() == ""


def test_the_end_of_the_socket_is_the_end_of_the_agent(pod, start_agent):
    agent, client = steal(pod, start_agent)
    client.cut()
    assert agent.wait() == 0
    assert pod.ruleset() == ""


def test_sigterm_gives_everything_back_and_says_so(pod, start_agent):
    agent, client = steal(pod, start_agent)
    agent.process.send_signal(signal.SIGTERM)
    client.until(lambda: bool(client.notices))
    assert client.notices == [Bye("the agent was asked to end")]
    assert agent.wait() == 0
    assert pod.ruleset() == ""


def test_sigint_and_sighup_are_not_for_the_agent(pod, start_agent):
    agent, client = start_agent(pid=pod.pid)
    for number in (signal.SIGINT, signal.SIGHUP):
        agent.process.send_signal(number)
        os.kill(agent.worker_pid(), number)
    assert isinstance(client.ask(GetPod()), Pod)


def test_nothing_is_left_when_the_worker_is_killed(pod, start_agent):
    agent, _ = steal(pod, start_agent)
    os.kill(agent.worker_pid(), signal.SIGKILL)
    assert agent.wait() == 128 + signal.SIGKILL
    assert pod.ruleset() == ""
    assert pod.run(lambda: claims.claimed("mirrord_trace_")) == []


def test_nothing_is_left_when_the_guard_is_killed(pod, start_agent):
    agent, _ = steal(pod, start_agent)
    worker = os.pidfd_open(agent.worker_pid())
    agent.process.kill()
    wait_for_end(worker)
    assert pod.ruleset() == ""


def test_nothing_is_left_when_both_are_killed(pod, start_agent):
    agent, _ = steal(pod, start_agent)
    worker = os.pidfd_open(agent.worker_pid())
    signal.pidfd_send_signal(worker, signal.SIGSTOP)
    agent.process.kill()
    signal.pidfd_send_signal(worker, signal.SIGKILL)
    wait_for_end(worker)
    assert pod.ruleset() == ""


def test_a_target_that_is_gone_is_told_at_the_first_request(start_agent):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    _, client = start_agent(pid=child)
    refused = client.ask(GetPod())
    assert isinstance(refused, Failed)
    assert refused.errno == errno.ESRCH
    assert str(child) in refused.text


def test_files_survive_the_death_of_the_target(pod, start_agent):
    _, client = start_agent(pid=pod.pid)
    assert not isinstance(client.ask(Stat(b"/etc/passwd", True)), Failed)
    os.kill(pod.pid, signal.SIGKILL)
    os.waitid(os.P_PID, pod.pid, os.WEXITED | os.WNOWAIT)
    assert not isinstance(client.ask(Stat(b"/etc/passwd", True)), Failed)
    assert isinstance(client.ask(GetPod()), Pod)


def test_a_session_is_resumed_within_its_lease(pod, start_agent):
    agent, client = steal(pod, start_agent, "port")
    client.cut()
    client.attach(agent.connect())
    assert isinstance(client.ask(GetPod()), Pod)
    with pod.socket() as caller:
        caller.connect(("127.0.0.1", 8080))
        client.until(lambda: bool(client.incoming))
    client.session.close()
    client.until(lambda: client.session.closed)
    assert agent.wait() == 0
    assert pod.ruleset() == ""


def test_a_large_file_comes_whole_over_a_transport_that_breaks(start_agent, tmp_path):
    content = os.urandom(1 << 20) * 8
    path = tmp_path / "large"
    path.write_bytes(content)
    agent, client = start_agent("port")
    stream = client.session.new_stream()
    client.ask(OpenFile(os.fsencode(path), os.O_RDONLY, 65536, stream))
    received, ended = bytearray(), []

    def on_data(view):
        enough = len(received) <= 1 << 20 < len(received) + len(view)
        received.extend(view)
        if enough:
            client.break_transport()

    client.session.consume(stream, on_data, ended.append)
    client.until(lambda: bool(client.lost))
    assert not ended
    client.attach(agent.connect())
    client.until(lambda: bool(ended))
    assert ended == [0]
    assert received == content


def test_an_agent_ends_when_its_lease_runs_out(pod, start_agent):
    agent, client = start_agent("port", pid=pod.pid, lease_s=1)
    assert client.ask(Subscribe(8080, False, "", False)) == Done()
    client.cut()
    assert agent.wait() == 0
    assert pod.ruleset() == ""


def test_strangers_at_the_port_change_nothing(pod, start_agent):
    agent, client = start_agent("port", pid=pod.pid)
    with agent.connect() as stranger:
        stranger.settimeout(10)
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):  # dropped: an end or a reset, whichever is first
            assert stranger.recv(1000) == b""
    assert isinstance(client.ask(GetPod()), Pod)


def test_a_second_session_is_refused(pod, start_agent):
    agent, client = start_agent("port", pid=pod.pid)
    first_session, client.session_id = client.session_id, b""
    sock = agent.connect()
    handshake = ClientHandshake(client.options.secret)
    sock.settimeout(10)
    with sock:
        sock.sendall(handshake.output())
        while handshake.result is None:
            handshake.receive(sock.recv(4096))
        sock.sendall(handshake.output())
        assert sock.recv(1) == b""
    client.session_id = first_session
    assert isinstance(client.ask(GetPod()), Pod)


def test_a_session_that_the_agent_does_not_know_is_refused(pod, start_agent):
    agent, client = start_agent("port", pid=pod.pid)
    client.session_id = b"x" * 16
    with pytest.raises(RemoteProtocolError, match="no longer knows"):
        client.attach(agent.connect())

"""Requests in and answers out, by a real agent; its life and end are in test_main.py."""

from __future__ import annotations

import errno
import os

import pytest
from mirrord_trace.agent.wire.messages import (
    Access,
    Attributes,
    Done,
    Failed,
    GetPod,
    LinkTarget,
    Opened,
    OpenedDirectory,
    OpenFile,
    Pod,
    ReadLink,
    Stat,
)


@pytest.fixture
def client(start_agent):
    return start_agent()[1]


def test_without_a_target_the_agents_own_surroundings_are_served(client):
    answer = client.ask(GetPod())
    assert isinstance(answer, Pod)
    assert any(entry.startswith(b"MIRRORD_TRACE_BOOT=") for entry in answer.environ)


def test_files(client, tmp_path):
    path = os.fsencode(tmp_path / "file")
    with open(path, "wb") as file:
        file.write(b"content")
    os.symlink(b"file", path + b".link")
    assert isinstance(client.ask(Stat(path, True)), Attributes)
    assert client.ask(Access(path, os.R_OK, True)) == Done()
    assert client.ask(ReadLink(path + b".link")) == LinkTarget(b"file")
    assert client.ask(Stat(path + b".none", True)) == Failed(errno.ENOENT)
    opened = client.ask(OpenFile(path, os.O_RDONLY, 100, client.session.new_stream()))
    assert isinstance(opened, Opened)
    assert (opened.content, opened.follows) == (b"content", False)
    listed = client.ask(OpenFile(os.fsencode(tmp_path), os.O_RDONLY, 100, client.session.new_stream()))
    assert isinstance(listed, OpenedDirectory)
    assert sorted(listed.names) == [b".", b"..", b"file", b"file.link"]


def test_a_large_file_comes_on_its_stream(client, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3 << 20))
    stream = client.session.new_stream()
    opened = client.ask(OpenFile(os.fsencode(path), os.O_RDONLY, 100, stream))
    assert isinstance(opened, Opened)
    assert opened.follows
    assert client.content(stream) == path.read_bytes()


def test_a_stream_that_was_not_needed_is_closed(client, tmp_path):
    stream = client.session.new_stream()
    assert client.ask(OpenFile(os.fsencode(tmp_path / "none"), os.O_RDONLY, 100, stream)) == Failed(errno.ENOENT)
    client.until(lambda: not client.session.connection.is_open(stream))


def test_many_requests_at_once_are_all_answered(client, tmp_path):
    path = os.fsencode(tmp_path)
    answers = []
    for _ in range(200):
        client.session.request(Stat(path, True), answers.append)
    client.until(lambda: len(answers) == 200)
    assert {type(answer) for answer in answers} == {Attributes}


def test_a_message_that_the_agent_does_not_answer(client):
    refused = client.ask(Done())
    assert isinstance(refused, Failed)
    assert refused.errno == errno.ENOSYS


def test_a_bug_costs_one_request(client):
    # A path with a NUL cannot come from a tracee; os.open raises ValueError for it, openat2 says EINVAL.
    refused = client.ask(Stat(b"/a\0b", True))
    assert isinstance(refused, Failed)
    assert isinstance(client.ask(GetPod()), Pod)


def test_a_client_that_never_greets_is_not_waited_for(new_agent):
    agent = new_agent("port", startup_timeout_s=1)
    agent.deliver()
    assert agent.wait() == 1


def test_one_that_says_something_else_is_not_listened_to(new_agent):
    agent = new_agent()
    agent.deliver()
    agent.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert agent.wait() == 1

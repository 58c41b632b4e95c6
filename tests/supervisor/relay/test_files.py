from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mirrord_trace.agent.wire.messages import Failed, FileStat, Message, Opened, OpenedDirectory, OpenFile
from mirrord_trace.supervisor.relay import files as files_module
from mirrord_trace.supervisor.relay.files import INLINE_LIMIT, Files, sealed_file

STAT = FileStat(1, 2, 0o100755, 1, 0, 0, 0, 5, 4096, 8, 0, 0, 0, -1)
REQUEST = OpenFile(b"/etc/config", os.O_RDONLY, 1 << 20, 1)


class Answers:
    """What `Files` replied: messages, and descriptors (closed at the end)."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.fds: list[int] = []

    def __call__(self, message: Message, fd: int) -> None:
        self.messages.append(message)
        self.fds.append(fd)

    def content(self) -> bytes:
        with os.fdopen(self.fds[0], "rb") as file:
            return file.read()


def open_file(pod: Any, files: Files, answers: Answers) -> None:
    files.open(REQUEST, answers)
    pod.until(lambda: answers.messages)
    pod.settle()


def test_small_file_is_a_sealed_memfd(pod: Any) -> None:
    pod.answers[OpenFile] = lambda message, reply: reply(Opened(STAT, b"hello", False))
    answers = Answers()
    open_file(pod, Files(pod.session), answers)
    assert answers.messages == [Opened(STAT, b"", False)]
    fd = answers.fds[0]
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == 0xF
    with pytest.raises(PermissionError):
        os.write(fd, b"x")
    assert os.fstat(fd).st_mode & 0o777 == 0o555
    assert answers.content() == b"hello"
    assert pod.session.connection.open_streams == 0
    assert pod.agent.connection.open_streams == 0


def test_the_agent_is_asked_with_a_stream_and_limit_of_ours(pod: Any) -> None:
    pod.answers[OpenFile] = lambda message, reply: reply(Failed(errno.EACCES))
    answers = Answers()
    open_file(pod, Files(pod.session), answers)
    asked = next(message for message in pod.asked if isinstance(message, OpenFile))
    assert asked == replace(REQUEST, stream=asked.stream, inline_limit=INLINE_LIMIT)


@pytest.mark.parametrize("reply_message", [Failed(errno.ENOENT), OpenedDirectory(STAT, (b".",), (1,), (4,))])
def test_other_answers_pass_through(pod: Any, reply_message: Message) -> None:
    pod.answers[OpenFile] = lambda message, reply: reply(reply_message)
    answers = Answers()
    open_file(pod, Files(pod.session), answers)
    assert (answers.messages, answers.fds) == ([reply_message], [-1])
    assert pod.session.connection.open_streams == 0


def large_file(pod: Any, content: bytes, tmp_path: Path) -> None:
    def answer(message: OpenFile, reply: Any) -> None:
        path = tmp_path / "pod-file"
        path.write_bytes(content)
        reply(Opened(replace(STAT, size=len(content)), b"", True))
        pod.agent.produce(message.stream, os.open(path, os.O_RDONLY))

    pod.answers[OpenFile] = answer


def test_large_file_is_complete_before_the_answer(pod: Any, tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * 5 + b"end"
    large_file(pod, content, tmp_path)
    answers = Answers()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    open_file(pod, Files(pod.session, str(temporary)), answers)
    assert answers.messages == [Opened(replace(STAT, size=len(content)), b"", False)]
    assert list(temporary.iterdir()) == []
    assert answers.content() == content
    assert pod.session.connection.open_streams == 0


def test_large_file_that_breaks_off(pod: Any) -> None:
    def answer(message: OpenFile, reply: Any) -> None:
        reply(Opened(STAT, b"", True))
        pod.agent.reset(message.stream, errno.EIO)

    pod.answers[OpenFile] = answer
    answers = Answers()
    before = len(os.listdir("/proc/self/fd"))
    open_file(pod, Files(pod.session), answers)
    assert (answers.messages, answers.fds) == ([Failed(errno.EIO)], [-1])
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_room_for_a_large_file(pod: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The disk is full: /dev/full stands for it."""
    large_file(pod, b"x" * 3_000_000, tmp_path)
    answers = Answers()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files_module, "_unlinked_file", lambda directory, mode: os.open("/dev/full", os.O_WRONLY))
        open_file(pod, Files(pod.session), answers)
    failure = answers.messages[0]
    assert isinstance(failure, Failed)
    assert failure.errno == errno.ENOSPC
    assert len(answers.messages) == 1
    pod.until(lambda: len(os.listdir("/proc/self/fd")) == before)
    assert "No space left on device; TMPDIR" in capfd.readouterr().err


def test_no_temporary_directory(pod: Any, tmp_path: Path) -> None:
    large_file(pod, b"x" * 300_000, tmp_path)
    answers = Answers()
    open_file(pod, Files(pod.session, str(tmp_path / "missing")), answers)
    assert isinstance(answers.messages[0], Failed)
    assert answers.messages[0].errno == errno.ENOENT


def test_slow_downloads_are_reported(
    pod: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files_module, "PATIENCE_S", 0.0)
    large_file(pod, b"x" * 3_000_000, tmp_path)
    answers = Answers()
    open_file(pod, Files(pod.session), answers)
    os.close(answers.fds[0])
    assert "fetching /etc/config from the pod: " in capfd.readouterr().err


@pytest.mark.parametrize(("mode", "copy"), [(0o100600, 0o444), (0o100755, 0o555), (0o104711, 0o555)])
def test_mode_of_the_copy(mode: int, copy: int) -> None:
    fd = sealed_file(b"", mode)
    assert os.fstat(fd).st_mode & 0o7777 == copy
    os.close(fd)

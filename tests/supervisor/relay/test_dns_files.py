from __future__ import annotations

from typing import Any

from mirrord_trace.agent.wire.messages import Failed, FileStat, Opened, OpenFile
from mirrord_trace.supervisor.relay.dns_files import read_pod_files

STAT = FileStat(*(0 for _ in range(14)))


def test_both_files_or_what_there_is_of_them(pod: Any) -> None:
    contents = {b"/etc/resolv.conf": b"search x\n", b"/etc/hosts": b"1.1.1.1 a\n"}

    def answer(message: OpenFile, reply: Any) -> None:
        content = contents.get(message.path)
        reply(Failed(2) if content is None else Opened(STAT, content, False))

    pod.answers[OpenFile] = answer
    got: list[tuple[bytes, bytes]] = []
    read_pod_files(pod.session, lambda *files: got.append(files))
    pod.until(lambda: got)
    del contents[b"/etc/resolv.conf"]
    read_pod_files(pod.session, lambda *files: got.append(files))
    pod.until(lambda: len(got) == 2)
    assert got == [(b"search x\n", b"1.1.1.1 a\n"), (b"", b"1.1.1.1 a\n")]

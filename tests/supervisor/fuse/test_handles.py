from __future__ import annotations

import errno
import os

import pytest
from fakekernel import Kernel
from fakepod import Pod
from mirrord_trace.agent.wire.file_messages import CloseHandle, OpenHandle, ReadHandle
from mirrord_trace.agent.wire.messages import Done, Failed
from mirrord_trace.supervisor.fuse.handles import WIRE_FLAGS, Handles, OpenFile
from mirrord_trace.supervisor.fuse.nodes import Node
from mirrord_trace.supervisor.fuse.waiting import Work, run


@pytest.fixture
def handles(kernel: Kernel) -> Handles:
    return kernel.handles


@pytest.fixture
def node(pod: Pod, kernel: Kernel) -> Node:
    pod.write("a", "hello")
    node = kernel.inode(kernel.node("a"))
    pod.take()
    return node


def begin(work: Work[object]) -> list[object]:
    found: list[object] = []
    run(work, found.append)
    return found


def errnos(found: list[object]) -> list[int | None]:
    return [result.errno if isinstance(result, OSError) else None for result in found]


def opened(handles: Handles, node: Node, flags: int = os.O_RDONLY) -> OpenFile:
    """Here alone."""
    return handles.add(handles.reserve(), node, flags, is_remote=False)


def test_numbers_are_used_once(handles: Handles, node: Node) -> None:
    one = opened(handles, node)
    handles.remove(one.id)
    other = opened(handles, node)
    assert other.id > one.id > 0
    assert len(handles) == 1
    assert handles.get(other.id) is other
    with pytest.raises(OSError) as caught:
        handles.get(one.id)
    assert caught.value.errno == errno.EBADF


def test_flags(handles: Handles, node: Node) -> None:
    append = opened(handles, node, os.O_WRONLY | os.O_APPEND)
    read = opened(handles, node)
    assert (append.appends, append.writes, read.appends, read.writes) == (True, True, False, False)
    assert WIRE_FLAGS & (os.O_CLOEXEC | os.O_DIRECT | os.O_NOFOLLOW) == 0
    assert handles.of(node) == [append, read]


def test_a_file_is_opened_in_the_pod_once(pod: Pod, handles: Handles, node: Node) -> None:
    file = opened(handles, node)
    several = [begin(handles.make_remote(file.id)) for _ in range(3)]
    assert pod.asked == [OpenHandle(file.id, b"/a", 0, 0, 0)]
    pod.answer_all()
    assert several == [[file]] * 3
    assert begin(handles.make_remote(file.id)) == [file]
    assert pod.take() == ["OpenHandle"]
    assert handles.any_of(node) == file.id


def test_a_failure_is_told_to_all_who_wait_and_the_next_one_tries_again(pod: Pod, handles: Handles, node: Node) -> None:
    file = opened(handles, node)
    several = [begin(handles.make_remote(file.id)) for _ in range(3)]
    pod.answer(0, Failed(errno.EMFILE))
    assert [errnos(found) for found in several] == [[errno.EMFILE]] * 3
    found = begin(handles.make_remote(file.id))
    pod.answer_all()
    assert found == [file]
    handles.remove(file.id)
    assert pod.closed() == [file.id]


def test_what_makes_a_file_in_the_pod_leaves_out_what_it_has_done_already(pod: Pod, handles: Handles, node: Node) -> None:
    file = opened(handles, node, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_APPEND)
    begin(handles.make_remote(file.id))
    assert pod.asked == [OpenHandle(file.id, b"/a", os.O_RDWR | os.O_APPEND, 0, 0)]


def test_another_file_in_its_place_is_closed_again_and_not_used(pod: Pod, handles: Handles, node: Node) -> None:
    file = opened(handles, node)
    pod.replace("a", b"other")
    for count in (1, 2):
        found = begin(handles.make_remote(file.id))
        pod.answer_all()
        assert errnos(found) == [errno.ESTALE]
        assert not file.is_remote
        assert pod.closed() == [file.id] * count
    handles.remove(file.id)
    assert pod.closed() == [file.id] * 2
    with pytest.raises(OSError) as caught:
        handles.any_of(node)
    assert caught.value.errno == errno.ESTALE


@pytest.mark.parametrize("is_same", [True, False])
def test_a_file_closed_while_it_is_being_opened_in_the_pod(pod: Pod, handles: Handles, node: Node, is_same: bool) -> None:
    """CloseHandle follows OpenHandle on its way, and once is enough."""
    file = opened(handles, node)
    found = begin(handles.make_remote(file.id))
    if not is_same:
        pod.replace("a", b"other")
    pod.carry_out()
    handles.remove(file.id)
    assert pod.notices == [CloseHandle(file.id)]
    pod.answer_all()
    assert len(found) == 1
    assert pod.notices == [CloseHandle(file.id)]
    assert pod.handles == {}


def test_what_is_open_here_alone_is_closed_here_alone(pod: Pod, handles: Handles, node: Node) -> None:
    handles.remove(opened(handles, node).id)
    handles.remove(999)
    assert pod.notices == []


def test_a_removed_file_without_a_name_is_stale(handles: Handles, node: Node, kernel: Kernel) -> None:
    file = opened(handles, node)
    kernel.tree.nodes.gone(b"/a")
    assert errnos(begin(handles.make_remote(file.id))) == [errno.ESTALE]
    assert file.opening is None


def test_the_inode_goes_with_its_last_file(pod: Pod, handles: Handles, node: Node, kernel: Kernel) -> None:
    files = [opened(handles, node) for _ in range(2)]
    kernel.forget(node.id)
    handles.remove(files[0].id)
    assert kernel.inode(node.id) is node
    handles.remove(files[1].id)
    with pytest.raises(OSError):
        kernel.inode(node.id)


def test_fetching(pod: Pod, handles: Handles, node: Node) -> None:
    file = opened(handles, node)
    begin(handles.make_remote(file.id))
    pod.answer_all()
    found = begin(handles.fetch(file.id, 1, 3))
    assert pod.asked[-1] == ReadHandle(file.id, 1, 3)
    pod.answer_all()
    assert found == [b"ell"]
    for answer, code in ((Failed(errno.EISDIR), errno.EISDIR), (Done(), errno.EIO), (Failed(0), errno.EIO)):
        found = begin(handles.fetch(file.id, 1, 3))
        pod.answer(0, answer)
        assert errnos(found) == [code]

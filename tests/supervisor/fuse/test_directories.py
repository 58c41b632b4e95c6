from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

import pytest
from fakekernel import ROOT, Clock, DirectoryEntry, Kernel, read_directory_entries
from fakepod import Pod
from mirrord_trace.agent.wire.file_messages import Entries, ReadDirectory
from mirrord_trace.agent.wire.stats import STAT_BYTES
from mirrord_trace.supervisor.fuse import protocol
from mirrord_trace.supervisor.fuse.asking import PREFETCH_LIMIT
from mirrord_trace.supervisor.fuse.knowledge import Lifetimes
from mirrord_trace.supervisor.fuse.protocol import Op

BUFFER = 32768


def opendir(kernel: Kernel, node: int) -> int:
    body = kernel.call(kernel.directories.opendir, Op.OPENDIR, node, protocol.OPEN_IN.pack(os.O_DIRECTORY, 0))
    return int.from_bytes(body[:8], "little")


def releasedir(kernel: Kernel, handle: int) -> None:
    kernel.call(kernel.directories.releasedir, Op.RELEASEDIR, 0, protocol.RELEASE_IN.pack(handle, 0, 0, 0))


def some(kernel: Kernel, handle: int, offset: int, size: int = BUFFER, plus: bool = True) -> list[DirectoryEntry]:
    """One READDIR or READDIRPLUS."""
    body = protocol.READ_IN.pack(handle, offset, size, 0, 0, 0)
    read = kernel.directories.readdirplus if plus else kernel.directories.readdir
    reply = kernel.call(read, Op.READDIRPLUS if plus else Op.READDIR, 0, body)
    assert len(reply) <= size
    return read_directory_entries(reply, plus)


def everything(kernel: Kernel, handle: int, size: int = BUFFER, plus: bool = True) -> list[DirectoryEntry]:
    """All of them, as the kernel reads them."""
    found: list[DirectoryEntry] = []
    while part := some(kernel, handle, found[-1].offset if found else 0, size, plus):
        found += part
    return found


def test_a_directory_is_one_round_trip_with_all_attributes(pod: Pod, kernel: Kernel) -> None:
    for name in ("a", "b", "c"):
        pod.write(f"d/{name}", name * 3)
    (pod.folder / "d/sub").mkdir()
    (pod.folder / "d/link").symlink_to("a")
    number = kernel.node("d")
    pod.take()
    handle = opendir(kernel, number)
    found = {entry.name: entry for entry in everything(kernel, handle)}
    assert set(found) == {b".", b"..", b"a", b"b", b"c", b"sub", b"link"}
    assert pod.asked == [ReadDirectory(b"/d", PREFETCH_LIMIT)]
    for name in (b"a", b"link", b"sub"):
        real = os.lstat(os.fsencode(pod.folder) + b"/d/" + name)
        entry = found[name].entry
        assert entry is not None
        assert (entry.attr.mode, entry.attr.ino, found[name].inode) == (real.st_mode, real.st_ino, real.st_ino)
        assert found[name].kind == stat.S_IFMT(real.st_mode) >> 12
        assert entry.node == kernel.lookup(f"d/{name.decode()}").node
        assert entry.attr_s == 1.0
    assert all(found[name].entry.node == 0 for name in (b".", b".."))  # type: ignore[union-attr]
    assert pod.take() == ["ReadDirectory"]


def test_names_alone(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    handle = opendir(kernel, ROOT)
    found = everything(kernel, handle, plus=False)
    assert [(entry.name, entry.kind) for entry in found] == [(b".", 4), (b"..", 4), (b"a", 8)]
    assert found[0].inode == kernel.getattr(ROOT).ino
    assert kernel.tree.nodes.at(b"/a") is None


def test_a_reply_has_the_references_that_it_gives_and_no_others(pod: Pod, kernel: Kernel) -> None:
    """The kernel gives them back, each once."""
    for number in range(10):
        pod.write(f"{number}")
    handle = opendir(kernel, ROOT)
    size = 4 * (128 + 32) + 100
    some(kernel, handle, 0, size)
    known = [kernel.tree.nodes.at(b"/%d" % number) for number in range(10)]
    assert sum(node.lookups for node in known if node is not None) == 2
    everything(kernel, handle, size)
    everything(kernel, handle)
    for node in [kernel.tree.nodes.at(b"/%d" % number) for number in range(10)]:
        assert node is not None
        assert 2 <= node.lookups <= 3


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("size", [200, 512, 4096])
def test_buffers_of_any_size_give_all_names_once(pod: Pod, kernel: Kernel, size: int, plus: bool) -> None:
    names = {b"x" * length for length in range(1, 30)}
    for name in names:
        pod.write(name.decode())
    found = everything(kernel, opendir(kernel, ROOT), size, plus)
    assert [entry.name for entry in found[:2]] == [b".", b".."]
    assert len(found) == len(names) + 2
    assert {entry.name for entry in found[2:]} == names
    assert [entry.offset for entry in found] == list(range(1, len(found) + 1))


def test_a_buffer_too_small_for_anything(pod: Pod, kernel: Kernel) -> None:
    assert some(kernel, opendir(kernel, ROOT), 0, 16) == []


def test_positions_stay_valid_whatever_happens_meanwhile(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    """rm -r reads and removes in turn."""
    for number in range(50):
        pod.write(f"d/{number}")
    number = kernel.node("d")
    handle = opendir(kernel, number)
    found: list[bytes] = []
    offset = 0
    while part := some(kernel, handle, offset, 1024):
        offset = part[-1].offset
        for entry in part:
            found.append(entry.name)
            if entry.name not in (b".", b".."):
                kernel.unlink(entry.name.decode(), number)
        clock.passes(0.4)
    assert len(found) == len(set(found)) == 52
    assert list((pod.folder / "d").iterdir()) == []


def test_reading_again_from_the_beginning_is_a_new_look(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    handle = opendir(kernel, ROOT)
    assert len(everything(kernel, handle)) == 2
    kernel.create("mine")
    assert {entry.name for entry in everything(kernel, handle)} == {b".", b"..", b"mine"}
    pod.write("theirs")
    clock.passes(1.0)
    assert {entry.name for entry in everything(kernel, handle)} == {b".", b"..", b"mine", b"theirs"}


def test_where_nothing_is_kept_a_listing_is_one_round_trip_still(pod: Pod, kernel_with: Callable[..., Kernel]) -> None:
    kernel = kernel_with(lifetimes=Lifetimes(0.0, 0.0))
    pod.write("a")
    handle = opendir(kernel, ROOT)
    found = everything(kernel, handle)
    assert {entry.name for entry in found} == {b".", b"..", b"a"}
    assert all(entry.entry is not None and entry.entry.node == 0 for entry in found)
    assert pod.take() == ["ReadDirectory"]


def test_an_open_directory_that_is_renamed(pod: Pod, kernel: Kernel) -> None:
    pod.write("d/x", "old")
    number = kernel.node("d")
    handle = opendir(kernel, number)
    kernel.rename("d", "e")
    pod.write("d/x", "another")
    kernel.node("d/x")
    (x,) = (entry for entry in everything(kernel, handle) if entry.name == b"x")
    assert x.entry is not None
    assert x.entry.node != kernel.node("d/x")
    assert {entry.name for entry in everything(kernel, handle)} == {b".", b"..", b"x"}


def test_an_open_directory_that_is_removed(pod: Pod, kernel: Kernel) -> None:
    (pod.folder / "d").mkdir()
    number = kernel.node("d")
    handle = opendir(kernel, number)
    kernel.call(kernel.names.rmdir, Op.RMDIR, ROOT, b"d\0")
    for again in (handle, handle, opendir(kernel, number)):
        assert [entry.name for entry in everything(kernel, again)] == [b".", b".."]
    assert kernel.getattr(number).nlink == 0


def test_a_directory_that_somebody_in_the_pod_has_replaced(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    (pod.folder / "d").mkdir()
    number = kernel.node("d")
    (pod.folder / "e").mkdir()
    (pod.folder / "d").rmdir()
    (pod.folder / "e").rename(pod.folder / "d")
    clock.passes(1.0)
    opendir(kernel, number)
    with pytest.raises(OSError) as caught:
        opendir(kernel, number)
    assert caught.value.errno == errno.ESTALE
    assert kernel.node("d") != number


def test_no_attributes_of_what_is_being_written_or_has_no_fixed_type(pod: Pod, kernel: Kernel) -> None:
    os.mkfifo(pod.folder / "fifo")
    _, writer = kernel.create("written")
    handle = opendir(kernel, ROOT)
    kernel.begin_write(writer, 0, b"hello").body()
    found = {entry.name: entry for entry in everything(kernel, handle)}
    assert found[b"fifo"].kind == 1
    assert all(found[name].entry.node == 0 for name in (b"fifo", b"written"))  # type: ignore[union-attr]


def test_a_hundred_thousand_names(pod: Pod, kernel: Kernel) -> None:
    names = [b"%06d" % number for number in range(100_000)]
    opening = kernel.begin(kernel.directories.opendir, Op.OPENDIR, ROOT, protocol.OPEN_IN.pack(0, 0))
    inodes = b"".join(number.to_bytes(8, "little") for number in range(1, len(names) + 1))
    pod.answer(0, Entries(b"\0".join(names), bytes([8]) * len(names), inodes, b"", b"", bytes(STAT_BYTES), b""))
    handle = int.from_bytes(opening.body()[:8], "little")
    found = everything(kernel, handle, 1 << 20)
    assert [entry.name for entry in found[2:]] == names
    assert [found[number].inode for number in (2, 100_001)] == [1, 100_000]


def test_an_inode_number_of_nothing_is_shown_as_another(pod: Pod, kernel: Kernel) -> None:
    """Programs take 0 for a removed entry."""
    opening = kernel.begin(kernel.directories.opendir, Op.OPENDIR, ROOT, protocol.OPEN_IN.pack(0, 0))
    pod.answer(0, Entries(b"a", b"\x08", bytes(8), b"", b"", bytes(STAT_BYTES), b""))
    handle = int.from_bytes(opening.body()[:8], "little")
    assert everything(kernel, handle, plus=False)[2].inode == 1


def test_numbers_of_names_are_those_of_their_files_on_every_device(pod: Pod, kernel: Kernel) -> None:
    """find(1) and others compare d_ino with st_ino."""
    pod.write("d/x")
    number = kernel.node("d")
    kernel.tree.visible(kernel.inode(ROOT).stat)
    kernel.tree.nodes._devices[kernel.inode(number).stat.dev] = 1  # as if others had been seen before
    entry = everything(kernel, opendir(kernel, number))[2]
    assert entry.entry is not None
    assert entry.inode == entry.entry.attr.ino


def test_failures(pod: Pod, kernel: Kernel) -> None:
    (pod.folder / "d").mkdir()
    number = kernel.node("d")
    pod.refusals[ReadDirectory] = errno.EACCES
    with pytest.raises(PermissionError):
        opendir(kernel, number)
    del pod.refusals[ReadDirectory]
    handle = opendir(kernel, number)
    releasedir(kernel, handle)
    releasedir(kernel, handle)
    with pytest.raises(OSError) as caught:
        some(kernel, handle, 0)
    assert caught.value.errno == errno.EBADF
    assert kernel.call(kernel.directories.fsyncdir, Op.FSYNCDIR, number, protocol.FSYNC_IN.pack(handle, 0)) == b""

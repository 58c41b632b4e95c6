from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrord_trace.agent.wire.messages import FileStat
from mirrord_trace.supervisor.fuse.nodes import Node, Nodes, below, key_of
from mirrord_trace.supervisor.fuse.protocol import ROOT_ID


def file(number: int, **fields: int) -> FileStat:
    return replace(FileStat(8, number, 0o100644, 1, 0, 0, 0, 5, 4096, 8, 0, 0, 0, number), **fields)


def directory(number: int, **fields: int) -> FileStat:
    return file(number, mode=0o040755, nlink=2, **fields)


def found(nodes: Nodes, path: bytes, stat: FileStat) -> Node:
    node = nodes.found(path, stat)
    node.lookups += 1
    return node


def test_the_root_is_there_from_the_start() -> None:
    nodes = Nodes()
    root = nodes.get(ROOT_ID)
    assert (root.path, root.is_directory) == (b"/", True)
    assert nodes.found(b"/", directory(2)) is root
    assert nodes.found(b"/", directory(3)) is root  # the pod has another one now
    assert root.stat == directory(3)
    nodes.forget(ROOT_ID, 1)
    nodes.gone(b"/")
    assert nodes.get(ROOT_ID).path == b"/"


def test_unknown_numbers_are_stale() -> None:
    with pytest.raises(OSError) as caught:
        Nodes().get(2)
    assert caught.value.errno == errno.ESTALE


def test_hard_links_are_one_inode() -> None:
    nodes = Nodes()
    node = found(nodes, b"/a", file(7, nlink=2))
    assert found(nodes, b"/b", file(7, nlink=2, size=9)) is node
    assert (node.paths, node.path, node.stat.size) == ([b"/a", b"/b"], b"/b", 9)
    nodes.gone(b"/b")
    assert (node.path, nodes.at(b"/a"), nodes.at(b"/b")) == (b"/a", node, None)
    nodes.gone(b"/a")
    with pytest.raises(OSError) as caught:
        _ = node.path
    assert caught.value.errno == errno.ESTALE


@pytest.mark.parametrize("other", [file(7, dev=9), file(8, btime_ns=7), file(7, btime_ns=8), file(7, mode=0o120777)])
def test_what_makes_another_inode(other: FileStat) -> None:
    """Numbers of deleted files are used again, with another birth time."""
    nodes = Nodes()
    node = found(nodes, b"/a", file(7))
    again = found(nodes, b"/a", other)
    assert again is not node
    assert again.id != node.id
    assert key_of(other) != node.key
    assert (nodes.at(b"/a"), node.paths) == (again, [])


def test_without_birth_times_a_removed_file_is_not_taken_for_the_next_one() -> None:
    nodes = Nodes()
    node = found(nodes, b"/a", file(7, btime_ns=-1))
    nodes.gone(b"/a")
    nodes.replaced(node)
    assert found(nodes, b"/b", file(7, btime_ns=-1)) is not node
    assert nodes.get(node.id) is node  # which is open, maybe


def test_a_file_without_a_name() -> None:
    nodes = Nodes()
    node = nodes.found(None, file(7, nlink=0))
    assert node.paths == []
    assert nodes.found(b"/linked", file(7)) is node
    assert node.path == b"/linked"


# -- directories ------------------------------------------------------------------------------------------------------


def test_a_directory_is_where_it_was_seen_last() -> None:
    """Somebody in the pod has moved it away and back again."""
    nodes = Nodes()
    found(nodes, b"/d", directory(7))
    found(nodes, b"/e", directory(7))
    assert found(nodes, b"/d", directory(7)).path == b"/d"


def test_a_file_is_asked_for_by_the_name_that_was_seen_last() -> None:
    nodes = Nodes()
    for path in (b"/a", b"/b", b"/a"):
        node = found(nodes, path, file(7))
    assert node.path == b"/a"


def test_the_root_mounted_once_more_below_itself_is_not_the_root() -> None:
    """mount --bind / /host: the kernel takes the root's number for no other name, and "/" must stay "/"."""
    nodes = Nodes()
    nodes.found(b"/", directory(2))
    host = found(nodes, b"/host", directory(2))
    assert host.id != ROOT_ID
    assert (nodes.root.path, host.path) == (b"/", b"/host")


def test_a_directory_that_is_mounted_twice_is_two() -> None:
    """For the kernel a directory has one place."""
    nodes = Nodes()
    one, other = found(nodes, b"/a", directory(7)), found(nodes, b"/a/b/c", directory(7))
    assert one is not other
    assert (one.path, other.path) == (b"/a", b"/a/b/c")
    assert found(nodes, b"/a", directory(7)) is one
    assert nodes.visible(one.stat).ino == nodes.visible(other.stat).ino


def test_renaming_a_directory_moves_what_is_below_it() -> None:
    nodes = Nodes()
    d = found(nodes, b"/d", directory(1))
    sub = found(nodes, b"/d/sub", directory(2))
    leaf = found(nodes, b"/d/sub/leaf", file(3))
    other = found(nodes, b"/d2", file(4))
    nodes.moved(b"/d", b"/e")
    assert [node.path for node in (d, sub, leaf, other)] == [b"/e", b"/e/sub", b"/e/sub/leaf", b"/d2"]
    assert [nodes.at(path) for path in (b"/d", b"/d/sub", b"/d/sub/leaf")] == [None] * 3
    assert nodes.at(b"/e/sub/leaf") is leaf
    assert found(nodes, b"/e", directory(1)) is d


def test_renaming_over_a_file() -> None:
    nodes = Nodes()
    one, two = found(nodes, b"/1", file(1)), found(nodes, b"/2", file(2))
    nodes.moved(b"/1", b"/2")
    assert (one.paths, two.paths) == ([b"/2"], [])
    assert (nodes.at(b"/1"), nodes.at(b"/2")) == (None, one)


def test_renaming_one_of_two_names() -> None:
    nodes = Nodes()
    node = found(nodes, b"/a", file(1, nlink=2))
    found(nodes, b"/b", file(1, nlink=2))
    nodes.moved(b"/a", b"/c")
    assert sorted(node.paths) == [b"/b", b"/c"]


def test_exchanging() -> None:
    nodes = Nodes()
    d = found(nodes, b"/d", directory(1))
    inside = found(nodes, b"/d/x", file(2))
    e = found(nodes, b"/e", directory(3))
    also_inside = found(nodes, b"/e/x", file(4))
    nodes.exchanged(b"/d", b"/e")
    assert [node.paths for node in (d, inside, e, also_inside)] == [[b"/e"], [b"/e/x"], [b"/d"], [b"/d/x"]]


def test_exchanging_what_is_not_known() -> None:
    nodes = Nodes()
    one = found(nodes, b"/one", file(1))
    nodes.exchanged(b"/one", b"/other")
    assert (one.paths, nodes.at(b"/one")) == ([b"/other"], None)


# -- life -------------------------------------------------------------------------------------------------------------


def test_an_inode_lives_as_long_as_the_kernel_has_references() -> None:
    nodes = Nodes()
    node = found(nodes, b"/a", file(7))
    found(nodes, b"/a", file(7))
    nodes.forget(node.id, 1)
    assert nodes.get(node.id) is node
    nodes.forget(node.id, 1)
    nodes.forget(node.id, 1)  # of nobody: ignored
    with pytest.raises(OSError):
        nodes.get(node.id)
    assert nodes.at(b"/a") is None
    assert found(nodes, b"/a", file(7)).id != node.id  # numbers are never used again


def test_an_inode_lives_as_long_as_a_file_is_open_or_bytes_are_on_their_way() -> None:
    nodes = Nodes()
    node = found(nodes, b"/a", file(7))
    node.handles.add(1)
    node.unsent = 3
    nodes.forget(node.id, 1)
    node.handles.clear()
    nodes.drop_if_unused(node)
    assert nodes.get(node.id) is node
    node.unsent = 0
    nodes.drop_if_unused(node)
    with pytest.raises(OSError):
        nodes.get(node.id)


def test_equal_numbers_on_two_devices_are_shown_as_two() -> None:
    nodes = Nodes()
    one, other = nodes.visible(file(7, dev=8), 99), nodes.visible(file(7, dev=9), 99)
    assert (one.dev, other.dev) == (99, 99)
    assert one.ino != other.ino
    assert nodes.visible(file(7, dev=8), 99) == one


# -- all of it together -------------------------------------------------------------------------------------------------

NAMES = st.sampled_from([b"/a", b"/b", b"/d", b"/d/a", b"/d/b", b"/d/e", b"/d/e/a"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["make", "mkdir", "link", "unlink", "rename", "exchange", "look", "forget"]), NAMES, NAMES),
    max_size=40,
)


class Model:
    """A file system: paths and the numbers of their files; directories are the numbers from 1000 on."""

    def __init__(self) -> None:
        self.at: dict[bytes, int] = {b"/": 1000}
        self.last = 0

    def below(self, path: bytes) -> list[bytes]:
        return [other for other in self.at if other.startswith(path.rstrip(b"/") + b"/")]

    def can_make(self, path: bytes) -> bool:
        return path not in self.at and self.at.get(path.rpartition(b"/")[0] or b"/", 0) >= 1000

    def can_swap(self, old: bytes, new: bytes) -> bool:
        both = old in self.at and new in self.at
        return both and not new.startswith(old + b"/") and not old.startswith(new + b"/") and old != new

    def can_move(self, old: bytes, new: bytes) -> bool:
        if old not in self.at or old == new or new.startswith(old + b"/") or self.at[old] == self.at.get(new):
            return False
        is_directory = self.at[old] >= 1000
        if new in self.at:
            return (self.at[new] >= 1000) == is_directory and not self.below(new)
        return self.can_make(new)

    def move(self, old: bytes, new: bytes) -> None:
        inside = {path: self.at.pop(path) for path in [old, *self.below(old)]}
        self.at.update({new + path[len(old) :]: number for path, number in inside.items()})

    def stat(self, path: bytes) -> FileStat:
        number = self.at[path]
        return directory(number) if number >= 1000 else file(number)


@settings(max_examples=400)
@given(STEPS)
def test_every_known_path_leads_to_its_file(steps: list[tuple[str, bytes, bytes]]) -> None:
    model, nodes = Model(), Nodes()
    for step, one, other in steps:
        if step in ("make", "mkdir") and model.can_make(one):
            model.last += 1
            model.at[one] = model.last + (1000 if step == "mkdir" else 0)
            found(nodes, one, model.stat(one))
        elif step == "link" and 0 < model.at.get(one, 0) < 1000 and model.can_make(other):
            model.at[other] = model.at[one]
            found(nodes, other, model.stat(other))
        elif step == "unlink" and one in model.at and not model.below(one):
            node = nodes.at(one)
            del model.at[one]
            nodes.gone(one)
            if node is not None and not node.paths:
                nodes.replaced(node)
        elif step == "rename" and model.can_move(one, other):
            model.at.pop(other, None)
            model.move(one, other)
            nodes.moved(one, other)
        elif step == "exchange" and model.can_swap(one, other):
            model.move(one, b"/aside")
            model.move(other, one)
            model.move(b"/aside", other)
            nodes.exchanged(one, other)
        elif step == "look" and one in model.at:
            found(nodes, one, model.stat(one))
        elif step == "forget":
            known = nodes.at(one)
            if known is not None:
                nodes.forget(known.id, known.lookups)
        for path in model.at:
            node = nodes.at(path)
            assert node is None or path == b"/" or key_of(model.stat(path)) == node.key
            assert node is None or path in node.paths
            if node is not None and path != b"/":
                assert nodes.get(node.id) is node
                assert all(model.at[each] == model.at[path] for each in node.paths)


def test_paths_below() -> None:
    assert (below(b"/", b"a"), below(b"/a", b"b")) == (b"/a", b"/a/b")

from __future__ import annotations

import errno
import stat
from dataclasses import replace

import pytest
from fakekernel import Clock, Kernel, read_entry
from fakepod import Pod
from mirrord_trace.agent.wire.messages import FileStat
from mirrord_trace.supervisor.fuse.generation import Generation
from mirrord_trace.supervisor.fuse.knowledge import Lifetimes
from mirrord_trace.supervisor.fuse.tree import Tree, TreeSettings, no_outcome
from mirrord_trace.supervisor.fuse.waiting import run

STAT = FileStat(1, 12, 0o100644, 1, 0, 0, 0, 5, 4096, 8, 0, 7, 7, 7)


@pytest.fixture
def tree(kernel: Kernel) -> Tree:
    return kernel.tree


def is_known(tree: Tree, path: bytes) -> bool:
    return tree.knowledge.look(path) is not None


def saw(tree: Tree, *paths: bytes) -> None:
    for path in paths:
        tree.knowledge.saw(path, STAT, tree.knowledge.ticket())


def test_nothing_may_be_written_unless_somebody_says_so(pod: Pod) -> None:
    tree = Tree(pod, TreeSettings(), Generation())  # type: ignore[arg-type]
    with pytest.raises(OSError) as caught:
        tree.demand_writable(b"/a")
    assert caught.value.errno == errno.EROFS
    node = tree.nodes.found(b"/a", STAT)
    with pytest.raises(OSError):
        tree.demand_node_writable(node)
    tree.nodes.gone(b"/a")
    tree.demand_node_writable(node)  # has no name: the program has made it


def test_an_entry_is_a_reference_and_has_the_mounts_own_device(tree: Tree) -> None:
    entry = read_entry(tree.entry(b"/a", STAT, 0.5))
    node = tree.nodes.at(b"/a")
    assert node is not None
    assert (entry.node, node.lookups, entry.entry_s, entry.attr_s) == (node.id, 1, 0.5, 0.5)
    tree.entry(b"/a", STAT, 0.5)
    assert node.lookups == 2
    assert tree.visible(STAT).dev == 77


def test_a_link_counts_no_longer_than_attributes(tree: Tree) -> None:
    link = replace(STAT, mode=stat.S_IFLNK | 0o777)
    assert read_entry(tree.entry(b"/link", link, 9.0)).entry_s == 1.0
    assert read_entry(tree.entry(b"/file", replace(STAT, ino=13), 9.0)).entry_s == 9.0


def test_a_fresh_entry_is_learnt(tree: Tree, kernel: Kernel) -> None:
    saw(tree, b"/", b"/d/a")
    before = kernel.generation.now
    assert read_entry(tree.fresh_entry(b"/d/a", replace(STAT, size=9))).attr.size == 9
    seen = tree.knowledge.look(b"/d/a")
    assert seen is not None
    assert seen.stat is not None
    assert seen.stat.size == 9
    assert kernel.generation.now > before


def test_a_special_entry_counts_for_this_moment(tree: Tree) -> None:
    entry = read_entry(tree.special_entry(b"/fifo", replace(STAT, mode=stat.S_IFIFO | 0o600)))
    assert (stat.S_IFMT(entry.attr.mode), entry.entry_s, entry.attr_s) == (stat.S_IFIFO, 0.0, 0.0)


def test_changes_are_counted_before_the_kernel_is_answered(tree: Tree, kernel: Kernel) -> None:
    node = tree.nodes.found(b"/a", STAT)
    for change in (
        lambda: tree.name_changed(b"/a"),
        lambda: tree.name_removed(b"/a"),
        tree.tree_changed,
        lambda: tree.content_changed(node),
        lambda: tree.changed_there(b"/a"),
        tree.advance,
    ):
        before = kernel.generation.now
        change()
        assert kernel.generation.now == before + 1


def test_what_changes_is_forgotten_by_all_its_names(tree: Tree) -> None:
    node = tree.nodes.found(b"/a", replace(STAT, nlink=2))
    tree.nodes.found(b"/b", replace(STAT, nlink=2))
    saw(tree, b"/a", b"/b", b"/c")
    tree.content_changed(node)
    assert [is_known(tree, path) for path in (b"/a", b"/b", b"/c")] == [False, False, True]


def test_what_has_names_that_are_not_known_is_forgotten_by_forgetting_all(tree: Tree) -> None:
    node = tree.nodes.found(b"/a", replace(STAT, nlink=2))
    saw(tree, b"/a", b"/c")
    tree.content_changed(node)
    assert not is_known(tree, b"/c")


def test_a_change_of_a_file_without_a_name(tree: Tree) -> None:
    node = tree.nodes.found(None, replace(STAT, nlink=0))
    saw(tree, b"/c")
    tree.content_changed(node)
    assert is_known(tree, b"/c")


def test_looking_waits_for_what_was_written(tree: Tree, pod: Pod) -> None:
    pod.write("a")
    node = tree.nodes.found(b"/a", STAT)
    run(tree.behind.write(node, 1, 0, b"abc"), no_outcome)
    found: list[object] = []
    run(tree.lstat(b"/a"), found.append)
    pod.loop.run()
    assert pod.take() == ["WriteHandle"]
    pod.answer_all()
    assert pod.take() == ["Walk"]
    assert len(found) == 1


def test_an_inode_that_was_given_up_while_bytes_were_on_their_way_goes_with_them(tree: Tree, pod: Pod) -> None:
    node = tree.nodes.found(b"/a", STAT)
    node.lookups = 1
    run(tree.behind.write(node, 1, 0, b"abc"), no_outcome)
    tree.nodes.forget(node.id, 1)
    assert tree.nodes.get(node.id) is node
    pod.answer_all()
    with pytest.raises(OSError):
        tree.nodes.get(node.id)


def test_what_was_changed_from_here_is_remembered_for_a_time(tree: Tree, clock: Clock) -> None:
    tree.name_changed(b"/before")
    tree.keeps_track = True
    node = tree.nodes.found(b"/written", STAT)
    tree.name_changed(b"/made")
    tree.name_removed(b"/removed")
    tree.content_changed(node)
    tree.changed_there(b"/theirs")
    paths = (b"/before", b"/made", b"/removed", b"/written", b"/theirs")
    assert [tree.was_changed_here(path, 2.0) for path in paths] == [False, True, True, True, False]
    clock.passes(2.0)
    assert not any(tree.was_changed_here(path, 2.0) for path in paths)


def test_defaults() -> None:
    assert TreeSettings() == TreeSettings(Lifetimes(1.0, 1.0), write_behind=True, read_ahead=True, device=0)

from __future__ import annotations

from mirrord_trace.supervisor.config.schema import Root
from mirrord_trace.supervisor.config.skipping import BUILD_TOOLS, read_skipping


def test_build_tools_are_skipped_unless_they_shall_not() -> None:
    assert read_skipping(Root()) == {tool.encode(): "skip_build_tools" for tool in BUILD_TOOLS}
    assert read_skipping(Root(skip_build_tools=True)) == read_skipping(Root())
    assert read_skipping(Root(skip_build_tools=False)) == {}


def test_further_build_tools_take_the_switch_to_be_on() -> None:
    assert read_skipping(Root(skip_extra_build_tools=["make", "ninja"]))[b"ninja"] == "skip_extra_build_tools"
    assert read_skipping(Root(skip_extra_build_tools="make", skip_build_tools=False)) == {}


def test_other_programs_do_not() -> None:
    skipped = read_skipping(Root(skip_processes=["bash", " git ", "", "größe"], skip_build_tools=False))
    assert skipped == dict.fromkeys((b"bash", b"git", "größe".encode()), "skip_processes")
    assert read_skipping(Root(skip_processes="node"))[b"node"] == "skip_processes"

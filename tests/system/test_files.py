"""Every way to look at files gives under supervision what it gives without, here and in the pod."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from build import FLAVOURS, c_program
from mirrord_trace.supervisor.targets.demo.pod import DemoPod
from runs import Argument, Runner

TIERS = pytest.mark.parametrize("fuse", ["on", "off"], ids=["mounted", "copied"])


def tier(runner: Runner, fuse: str) -> Sequence[Argument]:
    """The option that chooses how the pod's files come here."""
    config = runner.folder / f"fuse-{fuse}.json"
    config.write_text(json.dumps({"feature": {"fs": {"fuse": fuse}}}))
    return ["-f", config]

pytestmark = pytest.mark.usefixtures("every_way")


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_local_files_look_as_without_supervision(runner: Runner, tree: Path, flavour: str) -> None:
    program = c_program("files", flavour)
    native = runner.native(program, tree / "app")
    local = runner.local(program, tree / "app")
    assert native.status == 0, native
    assert (local.status, local.out) == (native.status, native.out), local.err


@TIERS
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_pod_files_look_as_to_a_process_of_the_pod(runner: Runner, flavour: str, fuse: str) -> None:
    # A dynamic program has no libraries in the pod; its texts are those of the static one.
    inside = runner.inside(c_program("files", "static" if flavour == "glibc" else flavour), "/app")
    traced = runner.traced(c_program("files", flavour), "/app", options=tier(runner, fuse))
    assert inside.status == 0, inside
    assert (traced.status, traced.out) == (inside.status, inside.out), traced.err


def test_the_copy_and_the_pod_are_alike(runner: Runner, tree: Path) -> None:
    program = c_program("files", "static")
    with DemoPod() as untouched:  # the tests' own has been written to
        inside = Runner(untouched, runner.folder, runner.environment).inside(program, "/app")
    assert runner.native(program, tree / "app").out == inside.out


@TIERS
@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/etc/hostname", "demo-pod-0\n"),
        ("/app/absolute", '{"pod": "demo-pod-0", "greeting": "I am a file of the pod", "numbers": [1, 2, 3]}\n'),
        ("/app/escape", "demo-pod-0\n"),
        ("/var/run/secrets/kubernetes.io/serviceaccount/token", "demo-token-of-the-pod"),
        ("/var/run/secrets/kubernetes.io/serviceaccount/namespace", "demo"),
        ("/app/names/gr\u00fc\u00df dich", "utf-8\n"),
    ],
)
def test_links_stay_below_the_pods_root(runner: Runner, path: str, content: str, fuse: str) -> None:
    cat = runner.traced("busybox", "cat", path, options=tier(runner, fuse))
    assert (cat.status, cat.out) == (0, content), cat.err


@TIERS
def test_a_file_of_the_pod_is_copied_whole(runner: Runner, tree: Path, fuse: str) -> None:
    copy = runner.folder / "copy"
    done = runner.traced("busybox", "cp", "/app/big.bin", copy, options=tier(runner, fuse))
    assert done.status == 0, done
    assert copy.read_bytes() == (tree / "app" / "big.bin").read_bytes()


@TIERS
def test_busybox_lists_and_finds(runner: Runner, fuse: str) -> None:
    busybox = Path("/bin/busybox")
    for arguments in (["ls", "-a", "/app"], ["find", "/app", "-type", "l"], ["wc", "-l", "/app/lines.txt"]):
        inside = runner.inside(busybox, *arguments)
        traced = runner.traced(busybox, *arguments, options=tier(runner, fuse))
        assert inside.status == 0, inside
        assert sorted(traced.out.split("\n")) == sorted(inside.out.split("\n")), traced.err


@TIERS
def test_writing_stays_on_this_machine(runner: Runner, fuse: str) -> None:
    done = runner.traced("/bin/sh", "-c", "echo here > written && cat written", options=tier(runner, fuse))
    assert (done.status, done.out) == (0, "here\n"), done.err
    assert (runner.folder / "written").read_text() == "here\n"

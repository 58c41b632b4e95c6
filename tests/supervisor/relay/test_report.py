from __future__ import annotations

import os

import pytest
from mirrord_trace.supervisor.relay.report import Progress, say, say_traceback, size


def test_a_line_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    say("all is well")
    assert capfd.readouterr().err == "mirrord-trace: all is well\n"


def test_a_closed_stderr_is_no_error() -> None:
    saved = os.dup(2)
    os.close(2)
    try:
        say("nobody hears it")
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def test_a_traceback_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    try:
        raise RuntimeError("a bug")
    except RuntimeError:
        say_traceback()
    assert "RuntimeError: a bug" in capfd.readouterr().err


def test_quick_news_are_for_terminals_only(capfd: pytest.CaptureFixture[str]) -> None:
    Progress(terminal=False)("quick")
    assert capfd.readouterr().err == ""
    Progress(terminal=True)("quick")
    assert capfd.readouterr().err == "mirrord-trace: quick\n"


def test_slow_news_are_for_everybody_and_not_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    progress = Progress(terminal=False, now=0.0)  # so long ago that a second has passed
    for text in ("pulling", "pulling", "starting"):
        progress(text)
    assert capfd.readouterr().err == "mirrord-trace: pulling\nmirrord-trace: starting\n"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (34_000_000, "34 MB"), (5 * 10**15, "5000 TB")]
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text

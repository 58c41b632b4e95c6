from __future__ import annotations

import os

import pytest
from mirrord_trace.supervisor.relay.report import PATIENCE_S, Progress, say, say_traceback, size


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


class Clock:
    """Monotonic time that passes when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_news_of_what_is_quick_are_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = Progress(clock)
    progress("starting")
    clock.now_s += PATIENCE_S - 0.01
    progress("ready")
    progress.show()
    assert capfd.readouterr().err == ""


def test_the_latest_news_are_shown_when_it_takes_longer(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = Progress(clock)
    progress("starting")
    progress("pulling")
    clock.now_s += PATIENCE_S
    progress.show()
    progress.show()
    assert capfd.readouterr().err == "mirrord-trace: pulling\n"


def test_later_news_are_shown_at_once_and_not_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = Progress(clock)
    clock.now_s += PATIENCE_S
    progress.show()
    for text in ("pulling", "pulling", "starting"):
        progress(text)
    assert capfd.readouterr().err == "mirrord-trace: pulling\nmirrord-trace: starting\n"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (34_000_000, "34 MB"), (5 * 10**15, "5000 TB")]
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text

from __future__ import annotations

import re
import signal
import threading
from typing import List, Optional

import pytest
from mirrord_trace.agent.http.filters import Facts, Path
from mirrord_trace.agent.http.patience import Patient


def asked(path: str) -> Facts:
    return Facts(b"GET", path.encode(), ())


def test_it_matches_as_the_filter() -> None:
    before = signal.getsignal(signal.SIGVTALRM)
    patient = Patient(Path(re.compile("b+")))
    assert [patient.match(asked("/abba")), patient.match(asked("/c"))] == [True, False]
    assert signal.getsignal(signal.SIGVTALRM) is before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_a_filter_that_would_take_for_ever_is_given_up(capfd: pytest.CaptureFixture[str]) -> None:
    patient = Patient(Path(re.compile("(a+)+$")))
    assert patient.match(asked("/a")) is True
    assert patient.match(asked("/" + "a" * 60 + "b")) is False
    assert "takes too long" in capfd.readouterr().err
    assert patient.match(asked("/a")) is False, "it is not tried again"
    assert capfd.readouterr().err == ""


def test_another_thread_has_no_timer() -> None:
    found: List[Optional[bool]] = []
    thread = threading.Thread(target=lambda: found.append(Patient(Path(re.compile("x"))).match(asked("/x"))))
    thread.start()
    thread.join()
    assert found == [True]

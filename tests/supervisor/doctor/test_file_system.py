from __future__ import annotations

from mirrord_trace.supervisor.doctor import file_system, machine
from mirrord_trace.supervisor.fuse.availability import Obstacle


def test_where_it_works() -> None:
    finding = file_system.mounting(lambda: None)
    assert (finding.level, finding.remedy) == ("ok", "")


def test_where_it_does_not() -> None:
    finding = file_system.mounting(lambda: Obstacle("there is no /dev/fuse", "sudo modprobe fuse"))
    assert finding.level == "warn"
    assert finding.what == "there is no /dev/fuse; the pod's files are copies for reading"
    assert finding.remedy == "sudo modprobe fuse"


def test_the_doctor_looks() -> None:
    assert file_system.mounting in machine.CHECKS
    assert file_system.mounting().name == "FUSE"

from __future__ import annotations

from mirrord_trace.supervisor.doctor.finding import Finding


def test_all_fields_go_into_json() -> None:
    finding = Finding("yama", "missing", "scope 3", "we trace", "restart")
    assert finding.as_json() == {
        "name": "yama",
        "level": "missing",
        "what": "scope 3",
        "why": "we trace",
        "remedy": "restart",
    }

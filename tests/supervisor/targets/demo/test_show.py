from __future__ import annotations

import pytest
from mirrord_trace.supervisor.targets.demo import show


def test_the_table_sets_both_runs_side_by_side() -> None:
    lines = show.table("hostname: here\nonly: here\n", "hostname: there\nlong: " + "word " * 20)
    text = [[cell.strip() for cell in line.split("|")] for line in lines]
    assert text[0] == ["", "natively", "with mirrord-trace"]
    assert text[2] == ["hostname", "here", "there"]
    assert text[3] == ["only", "here", ""] or text[3] == ["only", "here"]
    assert text[4][0] == "long"
    assert [row[0] for row in text[5:]] == [""] * (len(text) - 5)
    assert " ".join(row[2] for row in text[4:]) == " ".join(["word"] * 20)


def test_the_command_line_is_the_tools() -> None:
    assert show.command("./x", "y")[-5:] == ["-t", "demo", "--", "./x", "y"]
    assert show.command("./x", options=["--steal"])[-5:] == ["-t", "demo", "--steal", "--", "./x"]


def test_wrong_usage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["show"])
    assert show.main() == 2
    assert capsys.readouterr().err.startswith("usage: ")

"""What `make demo` shows: one static program run twice, side by side, then a server that takes over the pod's port.

`python -m mirrord_trace.supervisor.targets.demo.show OBSERVE SERVER`: the two programs of tests/programs/go. Everything
printed is what these runs printed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import UsageError
from . import network
from .pod import DemoPod
from .target import PID_VARIABLE

_WIDTHS = (18, 34, 44)
_LIMIT_S = 20.0
_ARGUMENTS = 3


def main() -> int:
    """The exit status: 0 if everything was as it should be."""
    if len(sys.argv) != _ARGUMENTS:
        sys.stderr.write(f"usage: {Path(sys.argv[0]).name} OBSERVE SERVER\n")
        return 2
    try:
        with DemoPod() as pod:
            os.environ[PID_VARIABLE] = str(pod.pid)
            return 0 if _side_by_side(sys.argv[1]) and _take_over(pod, sys.argv[2]) else 1
    except UsageError as error:
        sys.stderr.write(f"mirrord-trace: {error.text}\n")
        return error.exit_status


def command(program: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    """The command line that runs `program` in the context of the demo pod."""
    tool = "from mirrord_trace.supervisor.cli.main import main; main()"
    return [sys.executable, "-c", tool, "-t", "demo", *options, "--", program, *arguments]


def table(left: str, right: str) -> list[str]:
    """Two runs of the observing program, "name: value" a line, as the lines of a table."""
    seen = [dict(line.split(": ", 1) for line in text.splitlines() if ": " in line) for text in (left, right)]
    lines = [_row("", "natively", "with mirrord-trace"), _row(*("-" * width for width in _WIDTHS))]
    for name in seen[0] | seen[1]:
        cells = [textwrap.wrap(run.get(name, ""), width) or [""] for run, width in zip(seen, _WIDTHS[1:], strict=True)]
        for number in range(max(map(len, cells))):
            values = [cell[number] if number < len(cell) else "" for cell in cells]
            lines.append(_row("" if number else name, *values))
    return lines


def _row(*cells: str) -> str:
    return " | ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def _side_by_side(observe: str) -> bool:
    print(f"A static Go program, run here and by: mirrord-trace -t demo -- {observe}\n")
    runs = []
    for words in ([observe], command(observe)):
        started = time.monotonic()
        done = subprocess.run(words, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
        runs.append((done, time.monotonic() - started))
    (native, native_s), (traced, traced_s) = runs
    for line in table(native.stdout, traced.stdout):
        print("  " + line)
    print(f"\n  {native_s:.2f} s and {traced_s:.2f} s, exit status {native.returncode} and {traced.returncode}\n")
    sys.stdout.flush()
    sys.stderr.write(traced.stderr)
    return traced.returncode == 0 and native.stdout != traced.stdout


def _take_over(pod: DemoPod, server: str) -> bool:
    port = network.SECOND_HTTP_PORT
    print(f"Requests of another pod to http://{network.POD[0]}:{port}/\n")
    before = _ask(pod, "before")
    words = command(server, f":{port}", options=["--steal"])
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            during = _ask(pod, "while the local program listens", lambda answer: answer != before)
            process.send_signal(signal.SIGTERM)
            process.wait(_LIMIT_S)
            after = _ask(pod, "after it has ended", lambda answer: answer == before)
        finally:
            process.kill()
    return before == after != during


# Asks until the answer is the expected one, since a port changes hands a moment after the program says so; prints the last.
def _ask(pod: DemoPod, when: str, expected: Callable[[str], bool] = bool) -> str:
    end = time.monotonic() + _LIMIT_S
    while True:
        answer = pod.visit(network.SECOND_HTTP_PORT, "/").decode().strip()
        if expected(answer) or time.monotonic() > end:
            print(f"  {when + ':':33}{answer}", flush=True)
            return answer
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())

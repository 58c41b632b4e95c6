"""Runs the same sequences of file operations on this machine and on the pod's tree, and makes those short that differ."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from file_sequences_strategy import Operation
from runs import Argument, Runner

PROGRAM = Path(__file__).resolve().parent.parent / "programs" / "file_sequences.py"
_TIME_LIMIT_S = 1200
_ROUNDS = 40
# The demo pod's root is root in a user namespace: it may do anything with its files, but loses set-user-ID bits in writing.
_LIKE_THE_POD = ("unshare", "--user", "--map-root-user")
_ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1"}
if os.geteuid():
    _ENVIRONMENT["MIRRORD_TRACE_SEQUENCES_ORDINARY"] = "1"
_NATIVE = ("env", "MIRRORD_TRACE_SEQUENCES_NATIVE=1")

Sequence = list[Operation]
Seen = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """A sequence, and what it gave here and in the pod."""

    sequence: Sequence
    native: Seen
    traced: Seen

    @property
    def kind(self) -> tuple[str, ...]:
        """The operation that first gave something else, and what it gave: shorter sequences have to differ in the same."""
        for operation, *results in zip(self.sequence, self.native["results"], self.traced["results"], strict=False):
            if results[0] != results[1]:
                return operation[0], *(seen if isinstance(seen, str) else type(seen).__name__ for seen in results)
        return ("tree",)

    def __str__(self) -> str:
        lines = []
        here, there = self.native["results"], self.traced["results"]
        for number, operation in enumerate(self.sequence):
            one, other = (results[number] if number < len(results) else "-" for results in (here, there))
            lines.append(f"  {operation} -> {one}" + ("" if one == other else f"   IN THE POD: {other}"))
        for name, one, other in (("here", self.native, self.traced), ("in the pod", self.traced, self.native)):
            lines += [f"  only {name}: {entry}" for entry in one.get("tree", []) if entry not in other.get("tree", [])]
        if self.native.get("gone") != self.traced.get("gone"):
            lines.append(f"  removing it all: {self.native.get('gone')}   IN THE POD: {self.traced.get('gone')}")
        return "\n".join(lines)


class Comparison:
    """`runner`'s two ways to run a program. The pod's tree is a tmpfs; /dev/shm is one here. `settings`: of `feature.fs`."""

    def __init__(self, runner: Runner, **settings: float | bool) -> None:
        self._runner = runner
        # The program and its Python lie where a pod might have something, too.
        local = [f"^{re.escape(str(folder))}" for folder in (PROGRAM.parent, sys.prefix)]
        files = {"mode": "write", "local": local, **settings}
        self._config = runner.folder / "sequences.json"
        self._config.write_text(json.dumps({"feature": {"fs": files}}))
        self._batches = 0

    def differences(self, sequences: list[Sequence]) -> Iterator[Difference]:
        """Those that differ, as they come."""
        self._batches += 1
        lines = self._runner.folder / f"sequences-{self._batches}"
        lines.write_text("".join(json.dumps(sequence) + "\n" for sequence in sequences))
        # As long as each other: the length of an absolute link is the size that stat(2) shows.
        name = f"sequences-{os.getpid()}-{self._batches:05}"
        here, there = f"/dev/shm/{name}", f"/app/{name}".ljust(len(f"/dev/shm/{name}"), "_")
        try:
            native = self._run([*_LIKE_THE_POD, *_NATIVE, sys.executable, PROGRAM, here, lines], len(sequences))
        finally:
            subprocess.run(["rm", "-rf", here], check=False)
        command = self._runner.command(sys.executable, PROGRAM, there, lines, options=["-f", self._config])
        traced = self._run(command, len(sequences))
        for sequence, one, other in zip(sequences, native, traced, strict=True):
            if one != other:
                yield Difference(sequence, one, other)

    def _run(self, command: list[Argument], count: int) -> list[Seen]:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self._runner.folder,
            env=self._runner.environment_for(_ENVIRONMENT),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIME_LIMIT_S,
            check=False,
        )
        seen = [json.loads(line) for line in done.stdout.splitlines()]
        assert seen or not count, done.stderr
        missing = count - len(seen)
        failure = {"results": [f"ended with {done.returncode}: {done.stderr[-3000:]}"]}
        if missing <= 0 and done.returncode and seen:
            seen[-1] = failure
        return [*seen, *[failure] * missing]

    def shortened(self, difference: Difference) -> Difference:
        """The same kind of difference in as few operations as can be; all candidates of a round run in one process."""
        for _ in range(_ROUNDS):
            differences = self.differences(list(_candidates(difference.sequence)))
            found = next((other for other in differences if other.kind == difference.kind), None)
            if found is None:
                break
            difference = found
        return difference


# Large parts away first, then one by one; a sequence that begins with the creation of a file needs little else.
def _candidates(sequence: Sequence) -> Iterator[Sequence]:
    size = len(sequence) // 2
    while size:
        for start in range(0, len(sequence), size):
            yield sequence[:start] + sequence[start + size :]
        size //= 2
    for number, operation in enumerate(sequence):
        if operation[0] == "child":
            inner = operation[1]
            yield [*sequence[:number], *inner, *sequence[number + 1 :]]
            for at in range(len(inner)):
                yield [*sequence[:number], ["child", inner[:at] + inner[at + 1 :]], *sequence[number + 1 :]]

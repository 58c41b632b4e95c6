"""The loop of python-ptrace's own debugger around a program, for comparison: it stops at entry and exit of every call.

python benchmarks/ptrace_loop.py PROGRAM [ARGS]...
"""

from __future__ import annotations

import sys

from ptrace.debugger import ProcessExit, ProcessSignal, PtraceDebugger
from ptrace.debugger.child import createChild


def main() -> None:
    """Command line."""
    debugger = PtraceDebugger()
    process = debugger.addProcess(createChild(sys.argv[1:], no_stdout=False), is_attached=True)
    process.syscall()
    try:
        while True:
            try:
                event = debugger.waitSyscall()
                event.process.getregs()
                event.process.syscall()
            except ProcessSignal as signal:
                signal.process.syscall(signal.signum)
    except ProcessExit as end:
        sys.exit(end.exitcode)


if __name__ == "__main__":
    main()

"""Every action and every way a call can end, with real tracees."""

from __future__ import annotations

import errno
import os
import signal
import tempfile

import pytest
from rig import CALL, DECISION, LOCAL, apart, supervise, Supervised

from mirrord_trace.agent.wire.messages import Failed, GetPod, Pod
from mirrord_trace.supervisor.errors import InternalError
from mirrord_trace.supervisor.tracer.call import ActiveCall
from mirrord_trace.supervisor.tracer.tracee import Tracee
from mirrord_trace.syscalls.actions import (
    Answer,
    Ask,
    Continue,
    Decision,
    Handling,
    Keep,
    Return,
    Run,
    Scratch,
    SyscallError,
    run,
)
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.task import Task

_POD = Pod(b"pod", [], b"", []) if False else None

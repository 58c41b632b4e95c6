"""The limit of open files: as high as it can be."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from mirrord_trace.supervisor.tracer.tracee import credentials_of

_CAP_SYS_RESOURCE = 24
_REFUSE = """
def refuse(what, limits):
    if limits[1] > 100: raise ValueError("not allowed to raise maximum limit")
    setrlimit(what, limits)
"""
_PROGRAM = """
import json, resource
from mirrord_trace.supervisor.descriptors import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 100))
raise_limit()
print(json.dumps(resource.getrlimit(resource.RLIMIT_NOFILE)))
"""


def test_up_to_the_hard_limit_and_beyond_it_for_the_privileged() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    limit = 1 << 16 if credentials_of(os.getpid()).permitted >> _CAP_SYS_RESOURCE & 1 else 100
    assert json.loads(done.stdout) == [limit, limit]


def test_where_nobody_may_raise_it() -> None:
    refused = _PROGRAM.replace("raise_limit()", "resource.setrlimit = refuse\nraise_limit()").replace(
        "(20, 100))", "(20, 100))\nsetrlimit = resource.setrlimit\n" + _REFUSE
    )
    done = subprocess.run([sys.executable, "-c", refused], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [100, 100]

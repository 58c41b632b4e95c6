from __future__ import annotations

import subprocess
import sys

from mirrord_trace.agent.http.actions import CLIENT, POD
from mirrord_trace.agent.http.router import open_router
from wires import ME, Wires, mine, rules_of


def test_sampling_leaves_requests_to_the_pod():
    answers = iter([True, False])
    w = Wires(router=open_router(rules_of(ME), False, lambda: next(answers)))
    w.peer(mine("/1")).says(2, b"HTTP/1.1 204 No\r\n\r\n").peer(mine("/2"))
    assert w.to(CLIENT) == mine("/1")
    assert w.to(POD) == mine("/2")


def test_libraries_are_imported_when_they_are_needed():
    program = (
        "import sys, mirrord_trace.agent.http.router as r, mirrord_trace.agent.http.rules as p\n"
        'router = r.open_router(p.parse_rules(\'{"filter": {"path": "x"}}\'), False)\n'
        "router.start(), router.received(0, b'GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')\n"
        "sys.exit(bool({'h2', 'h11', 'ssl', 'hpack'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0

from __future__ import annotations

import errno

from mirrord_trace.agent.http.gateway import bad_gateway, bad_gateway_text
from mirrord_trace.agent.http.heads import response_head


def test_it_is_a_whole_answer():
    for method, last, marker in ((b"GET", False, b""), (b"HEAD", True, b"x")):
        answer = bad_gateway(method, errno.ECONNREFUSED, last, marker)
        head = response_head(answer)
        assert (head.status, head.keep_alive) == (502, not last)
        assert len(answer) - head.size == (head.length if method == b"GET" else 0)
        assert (b"mirrord-agent: x" in answer) is bool(marker)


def test_the_text_names_the_reason():
    assert b"Connection refused" in bad_gateway_text(errno.ECONNREFUSED)
    assert b"closed the connection" in bad_gateway_text(0)

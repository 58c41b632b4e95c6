from __future__ import annotations

from mirrord_trace.agent.http.actions import CLIENT, PEER, POD, Close, Join, Open, Send, SendEof


def test_actions_compare_by_what_they_say():
    assert Open(1, POD) == Open(1, POD, copy=False) != Open(1, CLIENT)
    assert Close(PEER) == Close(0, errno=0) != Close(0, 104)
    assert Send(1, b"a") != SendEof(1)
    assert Join(0, 1) == Join(a=PEER, b=1)

"""One request of an HTTP/2 peer: its stream there, the stream it goes on in, and that of its copy."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

from .filters import Facts
from .http2_pipe import Pipe
from .http2_side import Side

Header = Tuple[bytes, bytes]


class Stream:
    """`request` and `answer` are its two directions; `answered`: a final answer has begun.

    `choice` None: it waits for its body. `link` None: it has no end (yet). `serial` orders the waiting ones.
    """

    def __init__(self, peer: Side, number: int, headers: List[Any], serial: int) -> None:
        self.number = number
        self.headers = headers
        self.facts = facts_of(headers)
        self.serial = serial
        self.choice: Optional[str] = None
        self.answered = False
        self.link: Optional[Side] = None
        self.request = Pipe(peer, number)
        self.answer: Optional[Pipe] = None
        self.copy: Optional[Pipe] = None

    @property
    def finished(self) -> bool:
        """Whether both directions are over."""
        return self.answer is not None and self.answer.done and self.request.done

    def reset_link(self, code: int) -> None:
        """RST_STREAM to the end, if there is one."""
        if self.link is not None and self.answer is not None:
            self.link.reset(self.answer.source_id, code)


def facts_of(headers: List[Any]) -> Facts:
    """For the filters: pseudo-headers as what they mean, `:authority` as Host."""
    pseudo = {bytes(name): bytes(value) for name, value in headers if name[:1] == b":"}
    plain = [(bytes(name), bytes(value)) for name, value in headers if name[:1] != b":"]
    if b":authority" in pseudo and not any(name == b"host" for name, _ in plain):
        plain.append((b"host", pseudo[b":authority"]))
    return Facts(pseudo.get(b":method", b""), pseudo.get(b":path", b""), plain)

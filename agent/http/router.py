"""The way into this package: a router for a connection that was just accepted."""

from __future__ import annotations

from typing import Callable

from .actions import Router
from .detect import DetectingRouter
from .rules import Rules


def open_router(rules: Rules, mirror: bool, sampled: Callable[[], bool] = lambda: True) -> Router:
    """A router for plain bytes: HTTP/1, HTTP/2 with prior knowledge, or anything else, told apart by the first bytes.

    `sampled` is asked once for each request that matches; False leaves it to the pod (see sample.py). Connections that are
    not HTTP are the pod's if there is a filter or `mirror` is set, and the client's otherwise.
    """
    return DetectingRouter(rules, mirror, sampled)

"""One `mirrord-trace attach`: relay and agent started, a running process supervised, let go, everything taken down.

The tracer is a thread of its own here: when it ends, the kernel detaches all its tracees (see loop.py), and only then is
the session with the agent ended, which can take seconds.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...syscalls.context import Context
from ...syscalls.net import refusals
from ...syscalls.table import checks, handlers, rows
from ..forking import start
from ..session import Session
from ..tracer import arch
from ..tracer.doorbell import Doorbell
from ..tracer.stops import Ended
from ..tracer.sweep import Sweeper
from ..tracer.tracee import duplicate_of
from ..tracer.tree import Tree
from .driver import AttachedDriver
from .left import left
from .loop import AttachLoop
from .process import not_permitted
from .selection import Selection
from .signals import EndSignals
from .sockets import adopt, has_ring
from .tasks import named

if TYPE_CHECKING:
    from ..session import AnyLoop

_UNTIL_ANNOUNCED_S = 1.0
_LOOK_S = 0.001


class AttachSession(Session):
    """A started relay, and the process that it is for."""

    def attach(self, pid: int) -> Ended | None:
        """Wait for the agent, supervise `pid`, let it go when a signal says so or the session is lost, and clean up.

        Returns how the process ended, if it has.
        """
        try:
            ready, pod = self._await_pod()
            EndSignals.block()
            began_s = time.monotonic()
            attached: list[AttachLoop] = []
            in_a_thread(lambda: attached.append(self._attend(pid, self._context(ready, pod))))
            loop = attached[0]
            self._report(loop, time.monotonic() - began_s)
            return loop.root_end
        finally:
            self._end_relay()

    def _attend(self, pid: int, context: Context) -> AttachLoop:
        self._asks.sockets = context.sockets
        self._asks.on_refused = lambda message: refusals.refused(context, message, duplicate_of)
        driver = self._attached_driver(context)
        tree = Tree(driver.arch)
        doorbell = Doorbell()
        try:
            self._relay.link.set_doorbell(doorbell.pid)
            loop = AttachLoop(driver, tree, doorbell, pid)
            loop.on_attached = lambda: self._notice("attached", f"attached to {named(pid)}; Ctrl-C lets it go")
            loop.on_seized = lambda: self._look_at(context, tree)
            self._connect(loop, driver, context, Sweeper(tree, context))
            if not loop.attach():
                raise not_permitted(pid)
            self._attend_with_signals(loop, driver)
            if tree.tracees:
                self._notice("left", f"letting {named(pid)} go{left(context, tree)}")
            return loop
        finally:
            doorbell.remove()
            if self._doors is not None:
                self._doors.close()

    def _look_at(self, context: Context, tree: Tree) -> None:
        adopt(context.sockets, tree)
        for tgid in {tracee.tgid for tracee in tree.tracees.values()}:
            if has_ring(tgid):
                self._notice(f"ring-{tgid}", f"{named(tgid)} has an io_uring: what it does by that stays local, unseen")

    def _attached_driver(self, context: Context) -> AttachedDriver:
        native = arch.native()
        numbers, mounted = native.syscall_numbers, context.mount is not None
        driver = AttachedDriver(
            context,
            handlers(numbers, mounted=mounted),
            native,
            self._asks.ask,
            Selection(rows(mounted), numbers, unix_streams=bool(self._config.policy.unix_streams)),
            checks(numbers, mounted=mounted),
        )
        self._show_calls(driver)
        return driver

    def _give_up(self, loop: AnyLoop) -> None:
        # Not our program to end. What it asks for from now on is this machine's, as it was before.
        assert isinstance(loop, AttachLoop)
        self._notice("lost", self._asks.lost)
        self._kill_at_s = 0.0  # not again
        loop.detach()

    def _attend_with_signals(self, loop: AttachLoop, driver: AttachedDriver) -> None:
        late_s = time.monotonic() + _UNTIL_ANNOUNCED_S

        def tick() -> None:
            if driver.parked:
                loop.post(driver.interrupt_parked)
            if driver.letting_go:
                loop.post(loop.hurry)
            elif time.monotonic() > late_s:
                loop.post(loop.announce)

        signals = EndSignals(lambda: loop.post(loop.detach), tick)
        signals.start()
        try:
            loop.attend()
        finally:
            signals.stop()


def in_a_thread(work: Callable[[], None]) -> None:
    """Do `work` in a thread, and return, or raise what it has raised, once the kernel has seen the thread end."""
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=guarded, name="tracer")
    start(thread)
    thread.join()
    while os.path.exists(f"/proc/self/task/{thread.native_id}"):
        time.sleep(_LOOK_S)
    if failed:
        raise failed[0]

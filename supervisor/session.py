"""One run of the tool: relay and agent started, program launched and supervised, everything taken down again."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..agent.wire.messages import Attributes, Failed, FileStat, GetPod, Message, Pod, Stat
from ..syscalls.context import Context
from ..syscalls.mount import Mount
from ..syscalls.net import refusals
from ..syscalls.objects import Objects
from ..syscalls.policy import Policy
from ..syscalls.requests import Counts, GetCounts, Lost, Mounted, NamesLearnt, NotMounted, NotStarted, Ready
from ..syscalls.table import checks, handlers
from .config.engine import is_debugger
from .config.load import Config
from .config.program import Program, find_program, program
from .errors import EXIT_OWN_FAILURE, UsageError
from .holder import port_holder
from .relay.process import RelayHandle
from .tracer import arch, filters
from .tracer.asks import Asks
from .tracer.compiled import compiled_loop
from .tracer.doorbell import Doorbell
from .tracer.doors import Doors
from .tracer.driver import Driver
from .tracer.launch import Inherited, Start, launch
from .tracer.look import read_link
from .tracer.loop import Loop
from .tracer.own_signals import OwnSignals
from .tracer.skipping import Skipping, line_for
from .tracer.stops import Ended
from .tracer.sweep import Sweeper
from .tracer.tracee import duplicate_of
from .tracer.tree import Tree

if TYPE_CHECKING:
    from .notify.driver import Driver as NotifyDriver
    from .notify.loop import Loop as NotifyLoop

    AnyLoop = Loop | NotifyLoop
    AnyDriver = Driver | NotifyDriver

_IN_POD_DIRECTORY = frozenset({"getcwd"})
"""The calls that stop as well once a program's working directory is the pod's."""

_POD_ID = 0xFFFFFFFE
_COUNTS_ID = 0xFFFFFFFF
_POD_DEADLINE_S = 30.0
_COUNTS_DEADLINE_S = 2.0
_RELAY_END_S = 15.0
_GRACE_S = 2.0

M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Statistics:
    """What --stats shows. `stops`: of all supervised threads. Bytes: on the channel to the agent."""

    stops: int
    round_trips: int
    bytes_sent: int
    bytes_received: int
    seconds: float

    def line(self) -> str:
        """For people."""
        return (
            f"{self.stops} stops, {self.round_trips} round trips, {self.bytes_sent} bytes sent, "
            f"{self.bytes_received} bytes received, {self.seconds:.3f} s"
        )


@dataclass(frozen=True)
class Options:
    """What the command line asks for beyond `Config`."""

    stats_file: Path | None = None


class Session:
    """A started relay, and the program that runs with its help."""

    def __init__(self, config: Config, options: Options, relay: RelayHandle, inherited: Inherited) -> None:
        self._config = config
        self._options = options
        self._relay = relay
        self._inherited = inherited
        self._asks = Asks(relay.link)
        self._notices: set[str] = set()
        self._relay_ended = False
        self._kill_at_s: float | None = None
        self._mount: Mount | None = None
        self._doors: Doors | None = None

    def run(self, arguments: Sequence[str]) -> Ended:
        """Wait for the agent, run `arguments` (with --from-pod none may be given), and clean up.

        Returns how the first process ended; UsageError if the agent or the program could not be started.
        """
        try:
            ready, pod = self._await_pod()
            wanted = program(arguments, pod, self._config, dict(os.environb))
            path = find_program(wanted, self._look) if wanted.candidates else b""
            return self._supervise(wanted, path, ready, pod)
        finally:
            self._end_relay()

    def _await_pod(self) -> tuple[Ready, Pod]:
        ready = self._await(Ready, None)
        self._relay.link.ask(GetPod(), _POD_ID)
        return ready, self._await(Pod, _POD_DEADLINE_S)

    def _await(self, kind: type[M], deadline_s: float | None) -> M:
        message = self._reply(kind, deadline_s)
        if isinstance(message, Failed):
            raise UsageError(f"the agent cannot describe its pod: {message.text or os.strerror(message.errno)}")
        return message

    # stat(2) in the pod, before the program runs; None if there is nothing.
    def _look(self, path: bytes) -> FileStat | None:
        self._relay.link.ask(Stat(path, follow=True), _POD_ID)
        message = self._reply(Attributes, _POD_DEADLINE_S)
        return None if isinstance(message, Failed) else message.stat

    def _reply(self, kind: type[M], deadline_s: float | None) -> M | Failed:
        while self._relay.link.wait(deadline_s):
            for packet in self._relay.link.drain():
                message = packet.message
                if isinstance(message, (kind, Failed)):
                    return message
                if isinstance(message, NamesLearnt):
                    self._asks.learn(message)
                if isinstance(message, Mounted):
                    self._mount = Mount(b"/proc/%d/fd/%d" % (os.getpid(), packet.fd), message.device, self._generation)
                    self._mount.is_ordinary = os.geteuid() != 0
                    self._doors = Doors(self._mount, packet.fd)
                if isinstance(message, NotMounted):
                    self._without_mount(message.reason)
                if isinstance(message, NotStarted):
                    raise UsageError(message.reason, message.exit_status)
                if isinstance(message, Lost):
                    raise UsageError(message.reason)
        raise UsageError("the agent does not answer")

    def _generation(self) -> int:
        return self._relay.generation.now

    def _without_mount(self, reason: str) -> None:
        if self._config.file_system.fuse == "on":
            raise UsageError(f"cannot mount the pod's files: {reason}")
        self._notice("mount", f"files of the pod are copies for reading: {reason}")

    # -- the program ------------------------------------------------------------------------------------------------

    # `path`: of the pod, what is to be executed with --from-pod.
    def _supervise(self, wanted: Program, path: bytes, ready: Ready, pod: Pod) -> Ended:
        OwnSignals.block()
        supervise = self._traced
        if self._config.engine.is_notify(wanted.arguments):
            # Here, since most sessions are not of this kind and would only start later.
            importlib.import_module(".notify.loop", __package__)
            supervise = self._notified
        began_s = time.monotonic()
        context = self._context(ready, pod)
        self._asks.sockets = context.sockets
        self._asks.on_refused = lambda message: refusals.refused(context, message, duplicate_of)
        if self._config.trace:
            _tell_dropped(wanted)
        with contextlib.ExitStack() as at_end:
            if self._doors is not None:
                at_end.callback(self._doors.close)
            loop, driver = supervise(wanted, path, context, at_end)
            end = self._loop_with_signals(loop, driver)
        self._report(loop, time.monotonic() - began_s)
        # A program that we ended may have ended in good order, but it has not done its work.
        return end if self._kill_at_s is None else Ended(EXIT_OWN_FAILURE, 0, False)

    def _traced(
        self, wanted: Program, path: bytes, context: Context, at_end: contextlib.ExitStack
    ) -> tuple[AnyLoop, AnyDriver]:
        driver = self._driver(context)
        doorbell = Doorbell()
        at_end.callback(doorbell.remove)
        self._relay.link.set_doorbell(doorbell.pid)
        launched = launch(self._start(wanted, path), self._inherited)
        _let_go_of_standard_files()
        tree = Tree(arch.native())
        tree.skips = self._skipping(launched.pid).skips
        root = tree.add_root(launched.pid)
        if wanted.working_directory:
            root.process.traps = _IN_POD_DIRECTORY
        compiled = compiled_loop(context, arch.native())
        if compiled is not None:
            at_end.callback(compiled.close)
        loop = Loop(driver, tree, doorbell, launched, wanted.arguments[0], compiled)
        self._connect(loop, driver, context, Sweeper(tree, context))
        return loop, driver

    # The other engine: seccomp user notification.
    def _notified(
        self, wanted: Program, path: bytes, context: Context, at_end: contextlib.ExitStack
    ) -> tuple[AnyLoop, AnyDriver]:
        from .notify.driver import Driver as NotifyDriver
        from .notify.launch import launch as notify_launch
        from .notify.loop import Loop as NotifyLoop
        from .notify.passing import EXECUTING
        from .notify.skipped import Skipped
        from .notify.tasks import Tasks

        native = arch.native()
        numbers, mounted = native.syscall_numbers, context.mount is not None
        driver = NotifyDriver(
            context, handlers(numbers, mounted=mounted), native, self._asks.ask, checks(numbers, mounted=mounted)
        )
        self._show_calls(driver)
        code = filters.notify_filter(native, unix_streams=bool(self._config.policy.unix_streams), mounted=mounted)
        launched = notify_launch(replace(self._start(wanted, path), filters=[code]), self._inherited)
        at_end.callback(launched.end)
        _let_go_of_standard_files()
        tasks = Tasks(launched.guard)
        compiled = compiled_loop(context, native, ours=EXECUTING)
        if compiled is not None:
            at_end.callback(compiled.close)
        if self._config.skipped:
            # What is debugged is in the pod, whatever its debugger is.
            skipping = self._skipping(-1 if is_debugger(wanted.arguments[0]) else launched.pid)
            tasks.skipped = Skipped(lambda *asked: launched.has_executed and skipping.skips(*asked))
        loop = NotifyLoop(driver, tasks, launched, wanted.arguments[0], self._relay.link.fileno(), compiled)
        loop.children = (self._relay.pid,)
        self._connect(loop, driver, context, Sweeper(tasks, context))
        return loop, driver

    def _driver(self, context: Context) -> Driver:
        native = arch.native()
        numbers, mounted = native.syscall_numbers, context.mount is not None
        driver = Driver(
            context,
            handlers(numbers, mounted=mounted),
            native,
            self._asks.ask,
            lambda names: filters.later_filter(native, names),
            checks(numbers, mounted=mounted),
        )
        self._show_calls(driver)
        return driver

    def _show_calls(self, driver: AnyDriver) -> None:
        if self._config.trace:
            from .tracer.show import Tracer  # and with it python-ptrace, which nothing else needs

            driver.observer = Tracer().observe

    def _skipping(self, root: int) -> Skipping:
        device = self._mount.device if self._mount is not None else None
        if self._config.trace:
            from .tracer.show import Tracer

            return Skipping(self._config.skipped, device, Tracer().skipped)

        # Whoever names programs knows about them; of the default not everybody has heard.
        def told(pid: int, program: bytes, reason: str) -> None:
            if pid == root and reason == "skip_build_tools":
                self._notice("skipped", line_for(program))

        return Skipping(self._config.skipped, device, told)

    def _start(self, wanted: Program, path: bytes) -> Start:
        native = arch.native()
        unix_streams = bool(self._config.policy.unix_streams)
        code = [filters.first_filter(native, unix_streams=unix_streams, mounted=self._mount is not None)]
        if not path or self._mount is None:
            return Start(wanted.arguments, wanted.environment, code)
        code.append(filters.later_filter(native, _IN_POD_DIRECTORY))
        self._mount.is_used = True
        return Start(wanted.arguments, wanted.environment, code, path, self._mount.prefix + wanted.working_directory)

    def _context(self, ready: Ready, pod: Pod) -> Context:
        return Context(
            policy=Policy(self._config.policy_in(pod)),
            objects=Objects(),
            pod=pod,
            relay=self._asks,
            addresses=self._relay.addresses,
            listener4_port=ready.listener4_port,
            listener6_port=ready.listener6_port,
            routes_port=ready.routes_port,
            notice=self._notice,
            port_holder=port_holder,
            names=self._asks.names,
            mount=self._mount,
            doors=self._doors,
            read_link=read_link,
        )

    def _connect(self, loop: AnyLoop, driver: AnyDriver, context: Context, sweeper: Sweeper) -> None:
        def ring() -> None:
            self._asks.drain()
            self._asks.deliver(driver.answer)
            sweeper.sweep_if_due()
            if self._asks.lost and self._kill_at_s is None:
                self._give_up(loop)

        def child_ended(pid: int) -> None:
            if pid == self._relay.pid:
                self._relay_ended = True
                ring()

        loop.on_ring = ring
        loop.on_child_end = child_ended

    def _give_up(self, loop: AnyLoop) -> None:
        # What the program asks of the pod can no longer be answered, and answering locally would be wrong.
        self._notice("lost", f"{self._asks.lost}; ending the program")
        self._kill_at_s = time.monotonic() + _GRACE_S
        loop.kill_all(signal.SIGTERM)

    def _loop_with_signals(self, loop: AnyLoop, driver: AnyDriver) -> Ended:
        def pass_on(number: int) -> None:
            loop.post(lambda: loop.pass_on(number))

        def tick() -> None:
            if driver.parked:
                loop.post(driver.interrupt_parked)
            if self._kill_at_s is not None and time.monotonic() > self._kill_at_s:
                loop.post(lambda: loop.kill_all(signal.SIGKILL))

        signals = OwnSignals(pass_on, tick)
        signals.start()
        try:
            return loop.run()
        finally:
            signals.stop()

    def _report(self, loop: AnyLoop, seconds: float) -> None:
        if not (self._config.stats or self._options.stats_file):
            return
        counts = Counts(0, 0, 0)
        if not self._relay_ended and not self._asks.lost:
            self._relay.link.ask(GetCounts(), _COUNTS_ID)
            with contextlib.suppress(UsageError):
                counts = self._await(Counts, _COUNTS_DEADLINE_S)
        statistics = Statistics(loop.stops, counts.round_trips, counts.bytes_sent, counts.bytes_received, seconds)
        if self._config.stats:
            sys.stderr.write(f"mirrord-trace: {statistics.line()}\n")
        if self._options.stats_file:
            self._options.stats_file.write_text(json.dumps(asdict(statistics)) + "\n")

    # -- the end ----------------------------------------------------------------------------------------------------

    def _end_relay(self) -> None:
        # The relay takes the agent down; nothing may be left behind once the tool's exit status is known.
        if not self._relay_ended and not self._relay.finish(_RELAY_END_S):
            self._notice("relay", "cleaning up in the pod takes too long; leaving it to the agent's lease")
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._relay.pid, signal.SIGKILL)

    def _notice(self, key: str, text: str) -> None:
        if key not in self._notices:
            self._notices.add(key)
            sys.stderr.write(f"mirrord-trace: {text}\n")


def _tell_dropped(wanted: Program) -> None:
    for dropped in wanted.dropped:
        sys.stderr.write(f"mirrord-trace: {os.fsdecode(dropped.name)} of the pod left out: {dropped.why}\n")


def _let_go_of_standard_files() -> None:
    # A pipe must end when the program closes its end, whether or not the tool still runs.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)

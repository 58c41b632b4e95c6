"""The relay: a process between the tracer and the agent, so that no byte of bulk and no wait slows a stop.

It is forked from the tracer's process and is on its own from then on: its own session (a terminal's signals are for the
program), its own event loop, and no descriptor but stderr and the link. A pipe of the user's that stayed open here would
keep its reader waiting for end-of-file.

End-of-file on the link is the order to finish. It comes however the tracer ends, SIGKILL included: the relay says `Bye` to
the agent, takes away what the target started, and exits. It heeds no other signal to end but SIGKILL, after which the
agent finishes by itself.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import getpass
import logging
import os
import select
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import NamedTuple, NoReturn

from ...agent.bootstrap.payload import BootClient, build
from ...agent.options import Options
from ...agent.pump.loop import Loop
from ...agent.pump.transport import Transport
from ...agent.wire.messages import Message, Pod
from ...syscalls.name_rules import WITHOUT_FILTER, DnsConfig
from ...syscalls.policy import PolicyConfig
from ...syscalls.requests import Lost, NotMounted, NotStarted, Ready
from ...syscalls.requests import Mounted as MountedMessage
from ..channel.base import Channel
from ..config.file_system import FileSystemConfig
from ..errors import EXIT_OWN_FAILURE, UsageError
from ..forking import fork
from ..fuse.availability import fuse_obstacle
from ..fuse.generation import Generation
from ..fuse.knowledge import Lifetimes
from ..fuse.mounted import Mounted
from ..fuse.mounting import MountError, mount
from ..fuse.tree import TreeSettings
from ..targets.base import Target
from .addresses import AddressTable
from .connects import open_listeners
from .dispatch import Dispatch, Outward
from .link import RelayEnd, RelayLink, make_link
from .report import PATIENCE_S, Progress, say, say_traceback
from .session import AgentSession

_CLOSE_TIMEOUT_S = 5.0
_DRAIN_TIMEOUT_S = 60.0
_IGNORED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE)


@dataclass(frozen=True)
class RelaySettings:
    """What the relay is told by the configuration. `startup_timeout_s`: for the agent's answer once its loader waits.

    `outlived_by_users`: programs go on when the session ends, so that files they have open are not waited for.
    """

    startup_timeout_s: float = 60.0
    lease_s: int = 60
    log_level: int = logging.WARNING
    temporary_directory: str | None = None
    dns: DnsConfig = WITHOUT_FILTER
    file_system: FileSystemConfig = field(default_factory=FileSystemConfig)
    policy_in: Callable[[Pod], PolicyConfig] = lambda pod: PolicyConfig()
    outlived_by_users: bool = False


@dataclass(frozen=True)
class RelayHandle:
    """The tracer's hold on the relay, its child `pid`: the link, and the address table and counter that both share."""

    link: RelayLink
    pid: int
    addresses: AddressTable
    generation: Generation

    def finish(self, timeout_s: float = 30.0) -> bool:
        """Tell the relay to end and wait for it, so that nothing is left behind when we exit. False: it took too long.

        Reaps it, unless that has been done.
        """
        self.link.close()
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            ended = bool(poll.poll(timeout_s * 1000))
            if ended:
                os.waitpid(self.pid, 0)
            return ended
        except ChildProcessError:
            return True
        finally:
            os.close(pidfd)


def start_relay(target: Target, settings: RelaySettings = RelaySettings()) -> RelayHandle:
    """Fork the relay for this target. Returns at once; `Ready` or `NotStarted` comes over the link.

    Call it before this process has threads. The child does not return.
    """
    shared = _Shared(AddressTable(), Generation())
    ours, theirs = make_link()
    pid = fork()
    if pid == 0:
        _child(theirs, target, settings, shared)
    theirs.close()
    return RelayHandle(RelayLink(ours), pid, shared.addresses, shared.generation)


# Memory that tracer and relay both see.
class _Shared(NamedTuple):
    addresses: AddressTable
    generation: Generation


def _child(link: socket.socket, target: Target, settings: RelaySettings, shared: _Shared) -> NoReturn:
    status = EXIT_OWN_FAILURE
    try:
        _detach(link.fileno())
        status = _Relay(link, target, settings, shared).run()
    except BaseException:
        say("internal error of the relay; please report it with the lines below")
        say_traceback()
    finally:
        os._exit(status)


# Own session, own signals, no descriptors but stderr and the link. The objects of the parent that this process has copies
# of must never be collected here: their finalizers would close descriptors that are ours by then.
def _detach(link: int) -> None:
    gc.freeze()
    os.setsid()
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_IGN if number in _IGNORED else signal.SIG_DFL)
            except (OSError, ValueError):
                continue  # reserved by libc
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1) if _is_open(2) else (0, 1, 2):
        os.dup2(null, fd, inheritable=True)
    os.closerange(3, link)
    os.closerange(link + 1, _highest_descriptor() + 1)


def _is_open(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def _highest_descriptor() -> int:
    return max(map(int, os.listdir("/proc/self/fd")))


# What other people are told who want a port that we have.
def _who_we_are() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


# The relay's life: start, serve, finish.
class _Relay:
    def __init__(self, link: socket.socket, target: Target, settings: RelaySettings, shared: _Shared) -> None:
        self._socket = link
        self._target = target
        self._settings = settings
        self._shared = shared
        self._loop = Loop()
        self._link: RelayEnd | None = None
        self._agent: AgentSession | None = None
        self._dispatch: Dispatch | None = None
        self._is_up = False

    def run(self) -> int:
        try:
            progress = Progress()
            with _Abortable(self._socket, progress):
                channel = self._target.start(progress)
                transport = channel.open()
        except UsageError as error:
            self._not_started(error.text, error.exit_status)
        except OSError as error:
            self._not_started(f"cannot reach the agent for {self._target.describe()}: {error}", EXIT_OWN_FAILURE)
        except TracerGone:
            pass
        except Exception as error:
            say_traceback()
            reason = f"internal error ({type(error).__name__}: {error}); please report it with the lines above"
            self._not_started(reason, EXIT_OWN_FAILURE)
        else:
            self._serve(channel, transport)
        return self._stop_target()

    def _serve(self, channel: Channel, transport: Transport) -> None:
        settings = self._settings
        options = Options(
            **self._target.agent_target(), lease_s=settings.lease_s, log_level=settings.log_level, holder=_who_we_are()
        )
        self._agent = AgentSession(
            self._loop,
            channel,
            options.secret,
            name=self._target.describe(),
            on_notice=self._on_notice,
            on_up=self._on_up,
            on_over=self._on_over,
            say=say,
        )
        self._listeners = open_listeners()
        self._link = RelayEnd(self._loop, self._socket, lambda packet: self._parts().from_tracer(packet), self._on_end)
        self._dispatch = Dispatch(
            self._loop,
            self._agent.session,
            self._shared.addresses,
            self._listeners,
            Outward(self._link.reply, self._link.tell),
            temporary_directory=self._settings.temporary_directory,
            log_level=self._settings.log_level,
            dns=self._settings.dns,
        )
        boot = BootClient(self._target.boot_secret, build(options))
        self._agent.begin(transport, boot, self._settings.startup_timeout_s)
        try:
            self._loop.run()
        except Exception as error:  # a bug of ours; what the target has started must go all the same
            say_traceback()
            self._link.tell(Lost(f"internal error of the relay ({type(error).__name__}: {error}); please report it"))
        # Nobody answers any more, and to end the agent takes a while: who has been killed meanwhile must not wait for it.
        if (mounted := self._parts().mounted) is not None:
            mounted.close()

    def _parts(self) -> Dispatch:
        assert self._dispatch is not None
        return self._dispatch

    def _on_up(self) -> None:
        self._parts().prepare(self._on_prepared)

    def _on_prepared(self) -> None:
        assert self._link is not None
        self._is_up = True
        self._mount(self._link)
        ports = {family: listener.port for family, listener in self._listeners.items()}
        ipv4, ipv6 = ports.get(socket.AF_INET, 0), ports.get(socket.AF_INET6, 0)
        self._link.tell(Ready(ipv4, ipv6, self._parts().routes_port))

    def _mount(self, link: RelayEnd) -> None:
        assert self._agent is not None
        config = self._settings.file_system
        if config.fuse == "off":
            return
        try:
            mounted = mount()
        except MountError as error:
            link.tell(NotMounted(fuse_obstacle() or str(error)))
            return
        settings = TreeSettings(
            Lifetimes(config.attribute_s, config.negative_s),
            write_behind=config.write_behind,
            read_ahead=config.read_ahead,
        )
        tree = Mounted(self._loop, self._agent.session, mounted, settings, self._shared.generation)
        self._parts().serve(tree, self._settings.policy_in)
        link.tell(MountedMessage(tree.device), mounted.root)

    def _on_notice(self, message: Message) -> None:
        self._parts().from_agent(message, self._on_bye)

    def _on_bye(self, reason: str) -> None:
        self._on_over(f"the agent of {self._target.describe()} has ended: {reason or 'no reason given'}")

    # The agent is gone for good. The tracer decides what becomes of the program; we stay until it closes the link.
    def _on_over(self, reason: str) -> None:
        assert self._link is not None
        assert self._agent is not None
        if self._is_up:
            self._link.tell(Lost(reason))
        else:
            self._link.tell(NotStarted(reason, EXIT_OWN_FAILURE))
        self._parts().fail_all(errno.ENETDOWN)
        self._agent.abandon()

    # The tracer is gone: finish.
    def _on_end(self) -> None:
        assert self._agent is not None
        self._parts().finish()
        mounted = self._parts().mounted
        if mounted is None:
            self._close()
            return
        # What the program has written must reach the pod first, however it has ended.
        timer = self._loop.call_later(_DRAIN_TIMEOUT_S, self._close)

        def drained() -> None:
            timer.cancel()
            self._close()

        mounted.finish(drained, users=not self._settings.outlived_by_users)

    def _close(self) -> None:
        assert self._agent is not None
        self._loop.call_later(_CLOSE_TIMEOUT_S, self._loop.stop)
        self._agent.close("the program has ended", self._loop.stop)

    def _not_started(self, reason: str, exit_status: int) -> None:
        link = RelayEnd(self._loop, self._socket, lambda packet: None, self._loop.stop)
        link.tell(NotStarted(reason, exit_status))
        self._loop.run()

    def _stop_target(self) -> int:
        try:
            self._target.stop()
        except UsageError as error:
            say(error.text)
            return error.exit_status
        return 0


class TracerGone(BaseException):
    """Raised in the relay's main thread, wherever it is, when the tracer goes away during the start."""


# Starting a target blocks, for a minute if need be, in code that knows nothing of the link. So while it runs, end-of-file
# on the link is a signal (O_ASYNC), whose handler raises. It raises again every half second, since an exception in a
# finalizer or callback is lost. The same handler shows what was reported, by a timer, when the start takes long.
class _Abortable:
    def __init__(self, link: socket.socket, progress: Progress) -> None:
        self._link = link
        self._progress = progress

    def __enter__(self) -> None:
        signal.signal(signal.SIGIO, self._on_signal)
        signal.signal(signal.SIGALRM, self._on_signal)
        fcntl.fcntl(self._link, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(self._link, fcntl.F_GETFL)
        fcntl.fcntl(self._link, fcntl.F_SETFL, flags | os.O_ASYNC)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
        self._on_signal(0, None)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        flags = fcntl.fcntl(self._link, fcntl.F_GETFL)
        fcntl.fcntl(self._link, fcntl.F_SETFL, flags & ~os.O_ASYNC)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        poll = select.poll()
        poll.register(self._link, 0)
        if poll.poll(0):  # POLLHUP, which needs not be asked for
            signal.setitimer(signal.ITIMER_REAL, 0.5, 0.5)
            raise TracerGone
        self._progress.show()

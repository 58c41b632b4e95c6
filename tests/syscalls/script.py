"""Scripts: what a handler must do with a call, step by step, with fakes for the tracee and for the session.

    Script(openat, (AT_FDCWD, 0x1000, O_RDONLY), memory={0x1000: b"/data/x\\0"}, context=session(remote=[b"/data/x"]))
        .asks(OpenFile(b"/data/x", 0, 1 << 20, 1)).replies(Opened(STAT, b"", False), fd=memfd(b"text"))
        .gives(b"text", O_RDONLY).given(3)
        .keeps(Route.REMOTE)

Each step drives the real handler at once and fails with what it did instead. A script must be ended by `continues`,
`returns`, `keeps` or `raises`; conftest.py fails the test otherwise. Results and arguments may be negative as in C:
registers get the two's complement.
"""

from __future__ import annotations

import errno as errno_names
import os
import pprint
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from mirrord_trace.agent.wire.messages import Address, FileStat, Message, Pod
from mirrord_trace.syscalls.actions import (
    Answer,
    Ask,
    Continue,
    Decision,
    GiveFile,
    Given,
    Keep,
    Outcome,
    Reason,
    Return,
    Route,
    Run,
    Scratch,
    SyscallError,
    Trap,
)
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.incoming_rules import Subscription
from mirrord_trace.syscalls.mount import Mount
from mirrord_trace.syscalls.objects import Objects
from mirrord_trace.syscalls.policy import Policy
from mirrord_trace.syscalls.task import Credentials
from mirrord_trace.syscalls.views import View

UNFINISHED: list[Script] = []
"""Scripts begun and not ended in the running test."""

TASKS: list[FakeTask] = []
"""The fake threads of the running test; conftest.py closes their fds."""

STAT = FileStat(64, 4711, 0o100644, 1, 1000, 1001, 0, 5, 4096, 8, 1_000_000_001, 2_000_000_002, 3_000_000_003, -1)
"""Attributes of a regular pod file, no two of them alike."""


def memfd(content: bytes = b"") -> int:
    """An open file with this content, as the relay sends it. Whoever gets it owns it."""
    fd = os.memfd_create("script")
    os.pwrite(fd, content, 0)
    return fd


def key_of(fd: int) -> tuple[int, int]:
    """(st_dev, st_ino) of one of our own fds."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


# -- fakes ----------------------------------------------------------------------------------------------------------


class FakeTask:
    """A stopped thread: memory is a few mapped pieces, its fds are (duplicates of) our own or just keys."""

    def __init__(self, memory: Mapping[int, bytes] | None = None, tid: int = 4242, tgid: int = 4242) -> None:
        self.tid = tid
        self.tgid = tgid
        self.memory = {address: bytearray(content) for address, content in (memory or {}).items()}
        self.keys: dict[int, tuple[int, int]] = {}
        self.fds: dict[int, int] = {}
        self.cwd = b"/work"
        self.devices: dict[int, int] = {}
        """fd (AT_FDCWD: the working directory) -> st_dev, where that matters."""
        self.paths: dict[int, bytes] = {}
        self.no_directories: set[int] = set()
        self.user = Credentials(1000, 1000, 0, 1)
        self.views: set[View] = set()
        """What it has of its own."""
        self.programs: dict[int, bytes] = {}
        self.executes: list[bytes] = []
        self.reads = 0
        """How often its memory or its fds were looked at: what a hot path must keep low."""
        TASKS.append(self)

    def close(self) -> None:
        """The thread ends."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()

    def _piece(self, address: int) -> bytes:
        for start, content in self.memory.items():
            if start <= address < start + len(content):
                return bytes(content[address - start :])
        return b""

    def read(self, address: int, size_bytes: int) -> bytes:
        """See Task."""
        self.reads += 1
        content = self._piece(address)[:size_bytes]
        if len(content) < size_bytes:
            raise SyscallError(errno_names.EFAULT)
        return content

    def read_string(self, address: int, limit: int = 4096) -> bytes:
        """See Task."""
        self.reads += 1
        content = self._piece(address)
        end = content.find(b"\0", 0, limit)
        if end >= 0:
            return content[:end]
        raise SyscallError(errno_names.ENAMETOOLONG if len(content) >= limit else errno_names.EFAULT)

    def write(self, address: int, content: bytes) -> None:
        """See Task."""
        for start, piece in self.memory.items():
            if start <= address and address + len(content) <= start + len(piece):
                piece[address - start : address - start + len(content)] = content
                return
        raise SyscallError(errno_names.EFAULT)

    def file_key(self, fd: int) -> tuple[int, int] | None:
        """See Task."""
        self.reads += 1
        if fd in self.fds:
            return key_of(self.fds[fd])
        return self.keys.get(fd)

    def duplicate(self, fd: int) -> int:
        """See Task."""
        if fd not in self.fds:
            raise SyscallError(errno_names.EBADF)
        return os.dup(self.fds[fd])

    def current_directory(self) -> bytes:
        """See Task."""
        return self.cwd

    def device(self, fd: int) -> int | None:
        """See Task."""
        self.reads += 1
        return self.devices.get(fd)

    def may_be_directory(self, fd: int) -> bool:
        """See Task."""
        self.reads += 1
        return fd not in self.no_directories

    def path_of(self, fd: int) -> bytes:
        """See Task."""
        return self.paths.get(fd, b"")

    def credentials(self) -> Credentials:
        """See Task."""
        return self.user

    def has_own(self, view: View) -> bool:
        """See Task."""
        self.reads += 1
        return view in self.views

    def program_of(self, pid: int) -> bytes:
        """See Task."""
        return self.programs.get(pid, b"")

    def will_execute(self, program: bytes) -> None:
        """See Task."""
        self.executes.append(program)

    def enters(self, fd: int, path: bytes, *, is_directory: bool = True) -> None:
        """`fd` (AT_FDCWD: the working directory) is the mounted tree's `path` from now on."""
        self.devices[fd], self.paths[fd] = MOUNT_DEVICE, path
        if not is_directory:
            self.no_directories.add(fd)


_OUTGOING = Decision(Route.REMOTE, Reason.OUTGOING)
_INCOMING = Decision(Route.REMOTE, Reason.INCOMING)
_NOT_INTERNET = Decision(Route.LOCAL, Reason.NOT_INTERNET)


@dataclass
class FakePolicy:
    """Paths and addresses by name: what is listed is remote or missing, everything else local."""

    remote: Sequence[bytes] = ()
    missing: Sequence[bytes] = ()
    mapped: Mapping[bytes, bytes] = field(default_factory=dict)
    """Path -> path after feature.fs.mapping, remote or local."""
    writable: Sequence[bytes] = ()
    """Of the remote ones, those that are remote for writing as well."""
    pod_hostname: bool = True
    pod_interfaces: bool = True
    wants_names: bool = False
    outgoing_route: Decision = _OUTGOING
    incoming_route: Decision = _INCOMING
    unix_route: Decision = _NOT_INTERNET
    listen_ports: Mapping[int, int] = field(default_factory=dict)
    subscribes: Subscription = field(default_factory=Subscription)
    fail_if_taken: bool = True
    asked: list[object] = field(default_factory=list)
    trees: tuple[bytes, ...] = ()

    def local_trees(self) -> tuple[bytes, ...]:
        """See Policy."""
        return self.trees

    def file(self, path: bytes, *, write: bool = False) -> Decision:
        """Remote paths are remote for reading; writes stay local, as in mirrord's read mode."""
        self.asked.append(path)
        if path in self.missing:
            return Decision(Route.MISSING, Reason.DEFAULT_NOT_FOUND)
        if path in self.remote:
            if write and path not in self.writable:
                return Decision(Route.LOCAL, Reason.WRITE_ACCESS)
            return Decision(Route.REMOTE, Reason.FS_MODE, self.mapped.get(path, path))
        return Decision(Route.LOCAL, Reason.DEFAULT_LOCAL, self.mapped.get(path, b""))

    def outgoing(self, protocol: str, peer: Address, own_ports: object) -> Decision:
        """Always `outgoing_route`."""
        self.asked.append((protocol, peer))
        return self.outgoing_route

    def other_protocols(self) -> Decision:
        """Always `outgoing_route`."""
        return self.outgoing_route

    def incoming(self, port: int, local: Address) -> Decision:
        """Always `incoming_route`."""
        self.asked.append((port, local))
        return self.incoming_route

    def pod_port(self, port: int) -> int:
        """No mapping."""
        return port

    def listen_port(self, port: int) -> int:
        """By `listen_ports`."""
        return self.listen_ports.get(port, port)

    def subscription(self, pod_port: int) -> Subscription:
        """Always `subscribes`."""
        return self.subscribes

    def fails_if_taken(self) -> bool:
        """By `fail_if_taken`."""
        return self.fail_if_taken

    def interfaces(self) -> Decision:
        """By `pod_interfaces`."""
        if self.pod_interfaces:
            return Decision(Route.REMOTE, Reason.POD_INTERFACES)
        return Decision(Route.LOCAL, Reason.INTERFACES_OFF)

    def hostname(self) -> Decision:
        """By `pod_hostname`."""
        if self.pod_hostname:
            return Decision(Route.REMOTE, Reason.POD_HOSTNAME)
        return Decision(Route.LOCAL, Reason.HOSTNAME_OFF)

    def unix_socket(self, path: bytes) -> Decision:
        """Always `unix_route`."""
        self.asked.append(path)
        return self.unix_route


@dataclass
class FakeRelay:
    """What was told to the relay; `on_drain` runs at each drain, to let messages arrive."""

    told: list[tuple[Message, tuple[int, ...]]] = field(default_factory=list)
    drains: int = 0
    on_drain: Callable[[], None] = lambda: None

    def tell(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """See RelayPort."""
        self.told.append((message, fds))

    def drain(self) -> None:
        """See RelayPort."""
        self.drains += 1
        self.on_drain()


@dataclass
class FakeAddresses:
    """The address table as a dict: (ipv6, relay port, tracee port) -> (peer, pod's own address)."""

    entries: dict[tuple[bool, int, int], tuple[Address, Address]] = field(default_factory=dict)

    def lookup(self, ipv6: bool, relay_port: int, tracee_port: int) -> tuple[Address, Address] | None:
        """See AddressTable."""
        return self.entries.get((ipv6, relay_port, tracee_port))


POD = Pod((b"A=1",), b"pod-7f9c", (b"/server",), b"/", (bytes((10, 244, 0, 7)),))


def session(policy: Any = None, *, notices: list[str] | None = None, **rules: Any) -> Context:
    """A Context of fakes. `rules` are FakePolicy's fields; `notices` collects the lines for the user."""
    lines = notices if notices is not None else []
    return Context(
        policy=cast(Policy, policy if policy is not None else FakePolicy(**rules)),
        objects=Objects(),
        pod=POD,
        relay=FakeRelay(),
        addresses=FakeAddresses(),
        listener4_port=40004,
        listener6_port=40006,
        routes_port=70007,
        notice=lambda key, text: lines.append(text),
    )


PREFIX = b"/proc/77/fd/9"
MOUNT_DEVICE = 0x2A


def mounted(*, is_used: bool = False, **rules: Any) -> Context:
    """`session`, with the pod's tree mounted. Nothing has changed since it was learnt."""
    context = session(**rules)
    context.mount = Mount(PREFIX, MOUNT_DEVICE, lambda: 0, is_used)
    return context


def told(context: Context) -> list[Message]:
    """What the relay has been told so far."""
    return [message for message, _ in cast(FakeRelay, context.relay).told]


# -- scripts --------------------------------------------------------------------------------------------------------


def _registers(args: Sequence[int]) -> tuple[int, ...]:
    return tuple(value & 0xFFFF_FFFF_FFFF_FFFF for value in (*args, 0, 0, 0, 0, 0, 0)[:6])


class Script:
    """One call by one thread; see the head of this file. `task` and `context` are made up unless given."""

    def __init__(
        self,
        handler: Callable[..., Any],
        args: Sequence[int] = (),
        *,
        memory: Mapping[int, bytes] | None = None,
        task: FakeTask | None = None,
        context: Context | None = None,
    ) -> None:
        self.name = handler.__name__
        self.task = task if task is not None else FakeTask()
        for address, content in (memory or {}).items():
            self.task.memory[address] = bytearray(content)
        self.context = context if context is not None else session()
        self._handling = handler(self.context, self.task, _registers(args))
        self._waits = False
        self._steps: list[str] = []
        UNFINISHED.append(self)
        self._now: Any = self._advance(lambda: next(self._handling))

    def __str__(self) -> str:
        return "\n".join([f"  {self.name}:", *(f"    {step}" for step in self._steps)])

    # What the handler does next: an action, a final, or the SyscallError it raises.
    def _advance(self, go: Callable[[], Any]) -> Any:
        try:
            return go()
        except StopIteration as stop:
            return stop.value
        except SyscallError as error:
            return error

    def _check(self, what: str, expected: object, matches: bool) -> None:
        if matches and not self._waits:
            self._steps.append(f"{what} {expected!r}")
            return
        UNFINISHED.remove(self)
        if self._waits:
            raise AssertionError(f"{self}\n  the script must answer this before it says {what}")
        raise AssertionError(f"{self}\n  expected: {what}\n{_shown(expected)}\n  but the handler did:\n{_shown(self._now)}")

    def _expect(self, what: str, action: object) -> Script:
        self._check(what, action, self._now == action)
        self._waits = True
        return self

    def _send(self, what: str, outcome: Outcome) -> Script:
        assert self._waits, f"{self}\n  {what}: the handler has yielded nothing to answer"
        self._waits = False
        self._steps.append(f"{what} {outcome!r}")
        self._now = self._advance(lambda: self._handling.send(outcome))
        return self

    # -- what the handler yields, and its outcome

    def asks(self, request: Message) -> Script:
        """The next action is this request to the relay; `replies` or `fails` must follow."""
        return self._expect("asks", Ask(request))

    def replies(self, message: Message, fd: int = -1) -> Script:
        """The reply; `fd` belongs to the handler from here on."""
        return self._send("replies", Answer(message, fd))

    def fails(self, errno: int, text: str = "") -> Script:
        """The pod's or the relay's errno in place of a reply."""
        assert self._waits, f"{self}\n  fails: the handler has asked nothing"
        self._waits = False
        self._steps.append(f"fails {errno_names.errorcode[errno]}")
        self._now = self._advance(lambda: self._handling.throw(SyscallError(errno, text=text)))
        return self

    def runs(self, args: Mapping[int, int | Scratch] | None = None, sysno: int | None = None) -> Script:
        """The kernel runs the call with these arguments replaced; `gets` must follow."""
        return self._expect("runs", Run(dict(args or {}), sysno))

    def gets(self, result: int) -> Script:
        """The kernel's result of `runs`, or the outcome of `traps`."""
        return self._send("gets", result)

    def traps(self, *calls: str) -> Script:
        """These calls stop from now on; `gets` must follow."""
        return self._expect("traps", Trap(frozenset(calls)))

    def gives(self, content: bytes, flags: int) -> Script:
        """The tracee gets an open file with this content and these flags; `given` must follow."""
        return self._gives("gives", content, flags)

    def gives_directory(self, flags: int) -> Script:
        """The tracee gets a directory with no name and no entries, and these flags; `given` must follow."""
        return self._gives("gives_directory", None, flags)

    def _gives(self, what: str, content: bytes | None, flags: int) -> Script:
        gift = self._now
        held = _content(gift.fd) if isinstance(gift, GiveFile) else b""
        matches = isinstance(gift, GiveFile) and (held, gift.flags) == (content, flags)
        self._check(what, f"flags {flags:#o}, content {content!r} (is: {held!r})", matches)
        self._waits = True
        return self

    def given(self, result: int) -> Script:
        """The tracee's new fd number (from then on one of `task.fds`), or -errno. The file of `gives` is closed."""
        gift = self._now
        assert self._waits, f"{self}\n  given: nothing was given"
        assert isinstance(gift, GiveFile), f"{self}\n  given: the handler gives nothing"
        key = key_of(gift.fd)
        if result >= 0:
            self.task.fds[result] = os.open(f"/proc/self/fd/{gift.fd}", os.O_RDONLY | gift.flags)
        os.close(gift.fd)
        return self._send("given", Given(result, key))

    # -- the end

    def _end(self, what: str, final: type, expected: object, matches: bool, decision: Route | Reason | None) -> None:
        shown = getattr(self._now, "decision", None)
        fits = matches and type(self._now) is final and _decided(shown, decision)
        self._check(what, (expected, decision), fits)
        UNFINISHED.remove(self)

    def continues(self, decision: Route | Reason | None = None) -> None:
        """End: the kernel runs the call untouched."""
        self._end("continues", Continue, None, True, decision)

    def keeps(self, decision: Route | Reason | None = None) -> None:
        """End: the result that the kernel gave stands."""
        self._end("keeps", Keep, None, True, decision)

    def returns(self, value: int, writes: Mapping[int, bytes] | None = None, decision: Route | Reason | None = None) -> None:
        """End: this result, and exactly these bytes written to the tracee (they are in `task.memory` afterwards)."""
        now = self._now
        matches = isinstance(now, Return) and now.value == value and dict(now.writes) == dict(writes or {})
        self._end("returns", Return, (value, writes or {}), matches, decision)
        for address, content in (writes or {}).items():
            self.task.memory[address] = bytearray(content)

    def raises(self, errno: int, decision: Route | Reason | None = None) -> None:
        """End: the call fails with this errno."""
        matches = isinstance(self._now, SyscallError) and self._now.errno == errno
        self._end("raises", SyscallError, errno_names.errorcode[errno], matches, decision)


# None: it is a directory. Ours have to be without a name, which keeps them empty: nothing can be created in them.
def _content(fd: int) -> bytes | None:
    status = os.fstat(fd)
    if not stat.S_ISDIR(status.st_mode):
        return os.pread(fd, status.st_size, 0)
    assert status.st_nlink == 0, "the directory still has a name"
    return None


def _decided(decision: Decision | None, wanted: Route | Reason | None) -> bool:
    if wanted is None:
        return True
    return decision is not None and wanted in (decision.route, decision.reason)


def _shown(value: object) -> str:
    text = f"{value!r} {getattr(value, 'decision', '')}" if isinstance(value, SyscallError) else pprint.pformat(value)
    return "\n".join("    " + line for line in text.splitlines())

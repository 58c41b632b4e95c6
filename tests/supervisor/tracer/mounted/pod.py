"""A pod's tree without a pod: a tmpfs whose mount is attached nowhere, and a relay that answers from it at once."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mirrord_trace.agent.wire.messages import Access, Done, Failed, FileStat, LinkTarget, Message, Pod, ReadLink
from mirrord_trace.supervisor.tracer.filters import later_filter
from mirrord_trace.syscalls.actions import Answer
from mirrord_trace.syscalls.context import Args, Context, Doors
from mirrord_trace.syscalls.mount import Mount
from mirrord_trace.syscalls.objects import Objects
from mirrord_trace.syscalls.path_rules import FileConfig, FsMode
from mirrord_trace.syscalls.policy import Policy, PolicyConfig
from mirrord_trace.syscalls.requests import Foretell, Head, PathStat, ReadHead, StatPath
from mirrord_trace.syscalls.table import Handler, rows
from rig import ARCH, Supervised, supervise

_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432
_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def detached_tree() -> int:
    """O_PATH of the root of a fresh tmpfs that no path leads to."""
    made = _call(_SYS_FSOPEN, b"tmpfs", 1)
    _call(_SYS_FSCONFIG, made, 6, None, None, 0)  # FSCONFIG_CMD_CREATE
    mounted = _call(_SYS_FSMOUNT, made, 1, 0)
    os.close(made)
    return mounted


@dataclass
class PodTree:
    """The tree, what was asked of it, and what was foretold. Everything below /app and /pod is the pod's."""

    read_write: Sequence[str] = ("^/app(/|$)",)
    read_only: Sequence[str] = ("^/pod(/|$)",)
    mapping: Sequence[tuple[str, str]] = ()
    root: int = field(default_factory=detached_tree)
    told: list[Message] = field(default_factory=list)
    asked: list[Message] = field(default_factory=list)
    valid_ms: int = 60_000
    generation: int = 0
    doors: Callable[[Mount], Doors | None] = lambda mount: None

    def __post_init__(self) -> None:
        os.chmod(self.at(b"/"), 0o755)
        os.mkdir(self.at(b"/app"))
        os.mkdir(self.at(b"/pod"))

    def at(self, path: bytes) -> bytes:
        """Where this process finds a path of it."""
        return b"/proc/%d/fd/%d%s" % (os.getpid(), self.root, path)

    def put(self, path: bytes, content: bytes, mode: int = 0o644) -> None:
        """A file."""
        with open(self.at(path), "wb") as file:
            file.write(content)
        os.chmod(self.at(path), mode)

    def context(self) -> Context:
        """A session with it."""
        files = FileConfig(
            FsMode.LOCAL_WITH_OVERRIDES, tuple(self.read_write), tuple(self.read_only), mapping=tuple(self.mapping)
        )
        mount = Mount(self.at(b""), os.stat(self.at(b"/")).st_dev, lambda: self.generation)
        return Context(
            policy=Policy(PolicyConfig(files)),
            objects=Objects(),
            pod=Pod((), b"pod-7f9c", (), b"/", ()),
            relay=self,
            addresses=None,  # type: ignore[arg-type]
            listener4_port=0,
            listener6_port=0,
            notice=lambda key, text: None,
            mount=mount,
            doors=self.doors(mount),
        )

    # -- the relay ------------------------------------------------------------------------------------------------

    def tell(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """See RelayPort."""
        self.told.append(message)

    def drain(self) -> None:
        """See RelayPort."""

    def foretold(self) -> list[Foretell]:
        """All of them."""
        return [message for message in self.told if isinstance(message, Foretell)]

    def answer(self, request: Message) -> Message:
        """What the relay replies."""
        self.asked.append(request)
        try:
            return self._answer(request)
        except OSError as error:
            if isinstance(request, StatPath):
                return PathStat(error.errno or errno.EIO, FileStat(*[0] * 14), self.valid_ms, self.generation)
            return Failed(error.errno or errno.EIO, "")

    def _answer(self, request: Message) -> Message:
        if isinstance(request, StatPath):
            found = os.stat(self.at(request.path), follow_symlinks=request.follow)
            return PathStat(0, _file_stat(found), self.valid_ms, self.generation)
        if isinstance(request, ReadLink):
            return LinkTarget(os.readlink(self.at(request.path)))
        if isinstance(request, Access):
            if not os.access(self.at(request.path), request.mode):
                return Failed(errno.EACCES, "")
            return Done()
        assert isinstance(request, ReadHead), request
        if not os.stat(self.at(request.path)).st_mode & 0o111:
            return Failed(errno.EACCES, "")
        with open(self.at(request.path), "rb") as file:
            head = file.read(4096)
        return Head(0, head, _interpreter(head))


def _interpreter(head: bytes) -> bytes:
    if head[:5] != b"\x7fELF\x02":
        return b""
    offset, size, count = (int.from_bytes(head[a:b], "little") for a, b in ((32, 40), (54, 56), (56, 58)))
    for number in range(count):
        entry = head[offset + number * size :]
        if int.from_bytes(entry[:4], "little") == 3:
            start, length = (int.from_bytes(entry[a : a + 8], "little") for a in (8, 32))
            return head[start : start + length - 1]
    return b""


def _file_stat(found: os.stat_result) -> FileStat:
    return FileStat(
        found.st_dev, found.st_ino, found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_rdev,
        found.st_size, found.st_blksize, found.st_blocks, found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns, -1,
    )  # fmt: skip


def trace(pod: PodTree, program: str | Sequence[str], prepare: Callable[[Supervised], None] = lambda run: None) -> Supervised:
    """Run a program in the context of the pod tree, with the mounted table's file calls."""
    table = {row.name: row for row in rows(True) if row.name in ARCH.syscall_numbers and not row.alternatives}
    numbers = ARCH.syscall_numbers
    chosen: dict[str, Handler] = {
        row.name: row.handler for row in table.values() if row.handler is not None and not row.tests and row.name in numbers
    }
    context = pod.context()
    later = [row.name for row in table.values() if row.later]

    def begin(run: Supervised) -> None:
        def ask(request: Message) -> int:
            run.asked.append((len(run.asked) + 1, request))
            run.replies.append((len(run.asked), Answer(pod.answer(request))))
            run.loop.post(lambda: None)
            return len(run.asked)

        run.driver._ask = ask
        prepare(run)

    def later_code(names: frozenset[str]) -> bytes:
        return later_filter(ARCH, names)

    return supervise(program, chosen, prepare=begin, later=later_code, trapped=later, context=context)


__all__ = ["Args", "PodTree", "detached_tree", "trace"]

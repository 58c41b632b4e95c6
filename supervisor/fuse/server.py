"""fuse(4): serves the mounted tree on the relay's event loop: reads the kernel's requests, lets them be worked on, answers.

Many requests are under way at a time, and none waits for another unless it needs the same answer. The process that serves
the tree must never touch it: it would wait for itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import struct
import threading
from collections.abc import Callable

from ...agent.pump.loop import READ, Loop
from ..pending import is_reading
from . import protocol
from .attributes import AttributeCalls
from .directories import Directories
from .events import Events
from .files import Files
from .handles import Handles
from .locks import Locks
from .names import Names
from .patience import Patience
from .polls import Polls
from .protocol import Op, Request
from .tree import Tree
from .waiting import Outcome, Work, run

_BATCH = 32
_INVALIDATE_INODE = 2
_NOTIFICATION = struct.Struct("=IiQQqq")

_ENDS = (Op.RELEASE, Op.RELEASEDIR)
_GIVES_HANDLE = (Op.OPEN, Op.CREATE, Op.TMPFILE)
_GIVES_ENTRY = (Op.LOOKUP, Op.MKNOD, Op.MKDIR, Op.SYMLINK, Op.LINK, Op.CREATE, Op.TMPFILE)

Handler = Callable[[Request], Work[bytes]]


class Server:
    """Serves `tree` on the device `fd`, which it owns."""

    def __init__(self, loop: Loop, fd: int, tree: Tree) -> None:
        self._loop = loop
        self._fd = fd
        self._tree = tree
        self.handles = Handles(tree)
        self._locks = Locks(tree, self.handles, self.invalidate)
        self._files = Files(tree, self.handles, self._locks)
        self._polls = Polls(tree, self.handles, lambda number: self._write(protocol.poll_wakeup(number)))
        self._directories = Directories(tree)
        self._patience = Patience(loop, self._give_up, self._may_fail)
        self._notifier = _Notifier(fd)
        self._idle: Callable[[], None] | None = None
        self._is_draining = False
        self._waits_for_users = True
        self._over = 0
        self.events: Events | None = None
        """Whose own requests it answers by itself (events.py)."""
        self._handlers = self._table()
        os.set_blocking(fd, False)
        loop.watch(fd, READ, self._on_ready)

    def _table(self) -> dict[int, Handler]:
        names, attributes = Names(self._tree, self.handles), AttributeCalls(self._tree, self.handles)
        directories, files, locks = self._directories, self._files, self._locks
        return {
            Op.LOOKUP: names.lookup, Op.READLINK: names.readlink, Op.SYMLINK: names.symlink, Op.MKNOD: names.mknod,
            Op.MKDIR: names.mkdir, Op.UNLINK: names.unlink, Op.RMDIR: names.rmdir, Op.RENAME: names.rename,
            Op.RENAME2: names.rename2, Op.LINK: names.link,
            Op.GETATTR: attributes.getattr, Op.STATX: attributes.statx, Op.SETATTR: attributes.setattr,
            Op.ACCESS: attributes.access, Op.STATFS: attributes.statfs, Op.GETXATTR: attributes.getxattr,
            Op.LISTXATTR: attributes.listxattr, Op.SETXATTR: attributes.setxattr, Op.REMOVEXATTR: attributes.removexattr,
            Op.OPEN: files.open, Op.CREATE: files.create, Op.TMPFILE: files.tmpfile, Op.RELEASE: files.release,
            Op.READ: files.read, Op.WRITE: files.write, Op.FLUSH: files.flush, Op.FSYNC: files.fsync,
            Op.FALLOCATE: files.fallocate, Op.LSEEK: files.lseek, Op.COPY_FILE_RANGE: files.copy_file_range,
            Op.OPENDIR: directories.opendir, Op.RELEASEDIR: directories.releasedir, Op.READDIR: directories.readdir,
            Op.READDIRPLUS: directories.readdirplus, Op.FSYNCDIR: directories.fsyncdir,
            Op.POLL: self._polls.poll, Op.GETLK: locks.get, Op.SETLK: locks.set, Op.SETLKW: locks.set,
        }  # fmt: skip

    def close(self) -> None:
        """Stop serving: whoever still uses the tree gets ENOTCONN or ECONNABORTED from the kernel."""
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            self._patience.close()
            self._notifier.close()
            self._fd = -1

    def fail_all(self, number: int) -> None:
        """The session is lost: from now on every request fails with this errno."""
        self._over = number

    def when_idle(self, idle: Callable[[], None], *, users: bool = True) -> None:
        """Call back once no file is open any more (`users`: waited for) and the pod has everything that was written."""
        self._idle = idle
        self._waits_for_users = users
        self._look_whether_idle()

    def _look_whether_idle(self) -> None:
        if self._idle is None or (self._waits_for_users and len(self.handles)):
            return
        if not self._tree.behind.unsent_bytes:
            idle, self._idle = self._idle, None
            self._loop.call_soon(idle)
        elif not self._is_draining:  # pages of a mapping, which nobody waits for
            self._is_draining = True
            run(self._tree.behind.all_drained(), self._drained)

    def _drained(self, outcome: Outcome) -> None:
        self._is_draining = False
        self._look_whether_idle()

    # -- requests ---------------------------------------------------------------------------------------------------------

    def _on_ready(self, events: int) -> None:
        for _ in range(_BATCH):
            try:
                data = os.read(self._fd, protocol.REQUEST_BYTES)
            except OSError as error:
                if error.errno in (errno.ENODEV, errno.ENOTCONN):  # the last reference to the mount is gone
                    self._loop.unwatch(self._fd)
                    self.handles.remove_all()  # of which the kernel has not told
                    self._look_whether_idle()
                elif error.errno == errno.ENOENT:  # the request was interrupted
                    continue
                return
            self._take(protocol.read_request(data))
            if self._fd < 0:
                return

    def _take(self, request: Request) -> None:
        op = request.op
        handler = self._handlers.get(op)
        if self.events is not None and self.events.serves(request):
            handler = self.events.serve
        if handler is not None:
            self._begin(request, handler)
        elif op == Op.FORGET:
            self._tree.nodes.forget(request.node, protocol.FORGET_IN.unpack_from(request.body)[0])
        elif op == Op.BATCH_FORGET:
            self._forget_many(request)
        elif op == Op.INTERRUPT:
            self._interrupt(protocol.INTERRUPT_IN.unpack_from(request.body)[0])
        elif op == Op.INIT:
            self._init(request)
        elif op == Op.IOCTL:
            self._write(protocol.failure(request.unique, errno.ENOTTY))
        elif op != Op.DESTROY:
            self._write(protocol.failure(request.unique, errno.ENOSYS))

    def _begin(self, request: Request, handler: Handler) -> None:
        if self._over and request.op not in _ENDS:
            self._write(protocol.failure(request.unique, self._over))
            return
        self._patience.begun(request)

        def done(result: bytes | OSError) -> None:
            is_awaited = self._patience.ended(request.unique)
            if isinstance(result, OSError):
                if is_awaited:
                    self._write(protocol.failure(request.unique, result.errno or errno.EIO))
            elif not is_awaited or not self._write(protocol.reply(request.unique, result)):
                self._take_back(request.op, result)
            if self._idle is not None:
                self._look_whether_idle()

        run(handler(request), done)

    def _init(self, request: Request) -> None:
        init = protocol.read_init(request.body)
        if init.major != protocol.MAJOR or init.minor < protocol.LOWEST_MINOR:
            self._write(protocol.failure(request.unique, errno.EPROTO))
            return
        self._write(protocol.reply(request.unique, protocol.init_reply(init)))

    def _forget_many(self, request: Request) -> None:
        (count,) = protocol.BATCH_FORGET_IN.unpack_from(request.body)
        body = request.body[protocol.BATCH_FORGET_IN.size :]
        for number in range(count):
            self._tree.nodes.forget(*protocol.FORGET_ONE.unpack_from(body, number * protocol.FORGET_ONE.size))

    # A signal has come for who waits.
    def _interrupt(self, unique: int) -> None:
        request = self._patience.get(unique)
        if request is not None:
            self._stop_waiting(request)
            self._patience.told(unique)

    # What waits for others in the pod ends there, at any signal; the rest ends by itself.
    def _stop_waiting(self, request: Request) -> None:
        if request.op == Op.SETLKW:
            self._locks.give_up(request)
        elif request.op in (Op.READ, Op.WRITE):
            number = protocol.READ_IN.unpack_from(request.body)[0]
            if self._files.is_stream(number):
                self._files.give_up(number)
        elif request.op == Op.OPEN:
            self._files.give_up_open(request.unique)

    # The work goes on: it may be that the pod does it, and others may wait for what it finds out.
    def _give_up(self, request: Request) -> None:
        self._stop_waiting(request)
        self._write(protocol.failure(request.unique, errno.EINTR))

    # What is read of a FIFO would be lost, what is written might be written twice, and a page fault would be a SIGBUS.
    def _may_fail(self, request: Request) -> bool:
        if request.op == Op.READ:
            return not self._files.is_stream(protocol.READ_IN.unpack_from(request.body)[0]) and is_reading(request.pid)
        return request.op != Op.WRITE

    def give_up_for(self, tid: int) -> None:
        """What this thread waits for ends with EINTR."""
        self._patience.give_up(tid)

    # False: nobody waits for this answer any more (ENOENT), or the mount is gone.
    def _write(self, data: bytes) -> bool:
        try:
            os.write(self._fd, data)
        except OSError:
            return False
        return True

    # The kernel has not learnt of the open file, or of its references to inodes: it will not give them back. Nor has it
    # dropped the pages of another version.
    def _take_back(self, op: int, result: bytes) -> None:
        if op in _GIVES_HANDLE:
            number = int.from_bytes(result[-16:-8], "little")
            self.handles.get(number).node.kept_version = None
            self.handles.remove(number)
        elif op == Op.OPENDIR:
            self._directories.remove(int.from_bytes(result[:8], "little"))
        elif op == Op.READDIRPLUS:
            for node in protocol.nodes_told(result):
                self._tree.nodes.forget(node, 1)
        if op in _GIVES_ENTRY:
            self._tree.nodes.forget(int.from_bytes(result[:8], "little"), 1)

    # -- notifications ----------------------------------------------------------------------------------------------------

    def invalidate(self, node: int, settle: Callable[[Outcome], None]) -> None:
        """Have the kernel forget the pages and attributes of an inode; then call back."""
        body = _NOTIFICATION.pack(_NOTIFICATION.size, _INVALIDATE_INODE, 0, node, 0, 0)
        self._notifier.post(body, lambda: self._loop.call_threadsafe(lambda: settle(None)))


class _Notifier:
    """Writes notifications from a thread: the kernel may wait, in that write(2), for answers that the loop has to give.

    Closes the device, for it has to be sure that the thread writes into no other file that gets the same number.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._posts: queue.SimpleQueue[tuple[bytes, Callable[[], None]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def post(self, body: bytes, done: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        self._posts.put((body, done))

    def close(self) -> None:
        if self._thread is None:
            os.close(self._fd)
            return
        nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nothing, self._fd, inheritable=False)
        os.close(nothing)
        self._posts.put(None)

    def _run(self) -> None:
        while (post := self._posts.get()) is not None:
            with contextlib.suppress(OSError):
                os.write(self._fd, post[0])
            post[1]()
        os.close(self._fd)

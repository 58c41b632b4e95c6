"""The mounted tree: what all operations share."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ...agent.pump.session import Session
from ...agent.wire.messages import FileStat, Message
from . import protocol
from .asking import Asking
from .generation import Generation
from .knowledge import Knowledge, Lifetimes, Seen
from .nodes import Node, Nodes
from .waiting import DEADLINE_S, M, Outcome, Work, ask, failure
from .writebehind import WriteBehind

_TRACKED = 65536


@dataclass(frozen=True)
class TreeSettings:
    """`write_behind`, `read_ahead`: whether that is done. `device`: st_dev of the mount."""

    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    write_behind: bool = True
    read_ahead: bool = True
    device: int = 0


class Tree:
    """State of one mounted tree. `generation` advances whenever the program changes something in it."""

    def __init__(
        self,
        session: Session,
        settings: TreeSettings,
        generation: Generation,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.session = session
        self.settings = settings
        self.clock = clock
        self.nodes = Nodes()
        self.knowledge = Knowledge(settings.lifetimes, clock)
        self.asking = Asking(session, self.knowledge, settings.read_ahead)
        self.behind = WriteBehind(session, settings.write_behind, self.content_changed, self.nodes.drop_if_unused)
        self.may_write: Callable[[bytes], bool] = lambda path: False
        """Whether policy lets the program change this pod path."""
        self.keeps_track = False
        """Whether to remember when paths were changed from here (events.py)."""
        self._changed_at: dict[bytes, float] = {}
        self._generation = generation

    def ask(self, request: Message, reply: type[M], deadline_s: float = DEADLINE_S) -> Work[M]:
        """Ask the agent; OSError with the pod's errno."""
        return ask(self.session, request, reply, deadline_s)

    # -- looking ----------------------------------------------------------------------------------------------------------

    def lstat(self, path: bytes) -> Work[Seen]:
        """What is at the real path, with everything in it that has been written here."""
        node = self.nodes.at(path)
        if node is not None and node.unsent:
            yield from self.behind.drained(node)
        return (yield from self.asking.lstat(path))

    def visible(self, stat: FileStat) -> FileStat:
        """Attributes with the numbers that the mount shows."""
        return self.nodes.visible(stat, self.settings.device)

    def entry(self, path: bytes, stat: FileStat, valid_s: float) -> bytes:
        """fuse_entry_out for a file of the pod. The kernel has one more reference to its inode."""
        node = self.nodes.found(path, stat)
        node.lookups += 1
        if stat.mode & 0o170000 == 0o120000:
            valid_s = min(valid_s, self.settings.lifetimes.attribute_s)
        return protocol.entry(node.id, self.visible(stat), valid_s, valid_s)

    def special_entry(self, path: bytes, stat: FileStat) -> bytes:
        """`entry` for a FIFO or device that has just been made, shown as what it is, and only for this moment."""
        self._note(path)
        self.knowledge.name_made(path, stat)
        self._generation.advance()
        node = self.nodes.found(path, stat)
        node.lookups += 1
        return protocol.entry(node.id, self.visible(stat), 0.0, 0.0, is_special=True)

    def fresh_entry(self, path: bytes, stat: FileStat) -> bytes:
        """`entry` for a name that an operation has just made; it is learnt as well."""
        self._note(path)
        self.knowledge.name_made(path, stat)
        self._generation.advance()
        return self.entry(path, stat, self.settings.lifetimes.attribute_s)

    # -- changing ---------------------------------------------------------------------------------------------------------

    def demand_writable(self, path: bytes) -> None:
        """EROFS unless policy lets the program change `path`."""
        if not self.may_write(path):
            raise failure(errno.EROFS)
        self._note(path)

    def demand_node_writable(self, node: Node) -> None:
        """The same for a file; one without a name was made by the program."""
        if node.paths:
            self.demand_writable(node.path)

    def name_changed(self, path: bytes) -> None:
        """A name may have come, gone, or lead elsewhere, by our doing: to be called before the kernel is answered."""
        self._note(path)
        self.knowledge.forget_name(path)
        self._generation.advance()

    def name_removed(self, path: bytes) -> None:
        """A name has gone, by our doing."""
        self._note(path)
        self.knowledge.name_removed(path)
        self._generation.advance()

    def name_moved(self, old: bytes, new: bytes) -> None:
        """A file that is no directory has moved, by our doing."""
        self._note(old)
        self._note(new)
        self.knowledge.name_moved(old, new)
        self._generation.advance()

    def tree_changed(self) -> None:
        """A directory has moved, with all that is below it."""
        self.knowledge.forget_all()
        self._generation.advance()

    def content_changed(self, node: Node) -> None:
        """A file's content or attributes have changed, by our doing."""
        if node.stat.nlink > len(node.paths):
            self.knowledge.forget_all()  # by names of it that we do not know
        for path in node.paths:
            self._note(path)
            self.knowledge.forget(path)
        self._generation.advance()

    def changed_there(self, path: bytes) -> None:
        """Something about the path has changed by somebody else's doing in the pod."""
        self.knowledge.forget_name(path)
        self._generation.advance()

    def was_changed_here(self, path: bytes, within_s: float) -> bool:
        """Whether the path was changed by our doing so short a time ago."""
        return self.clock() - self._changed_at.get(path, -within_s) < within_s

    def _note(self, path: bytes) -> None:
        if self.keeps_track:
            if len(self._changed_at) > _TRACKED:
                self._changed_at.clear()
            self._changed_at[path] = self.clock()

    def advance(self) -> None:
        """Something changes: what the tracer knows counts no more."""
        self._generation.advance()


def no_outcome(outcome: Outcome) -> None:
    """For `run`, where nobody waits."""

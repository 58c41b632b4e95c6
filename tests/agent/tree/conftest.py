"""A root directory with something in it, and a way to wait for what the loop brings."""

from __future__ import annotations

import errno
import os
import threading
from typing import Any, Callable, Iterator, List

import pytest
from mirrord_trace.agent.net import failed
from mirrord_trace.agent.pump.loop import Loop
from mirrord_trace.agent.root import Root
from mirrord_trace.agent.tree.handles import Handles
from mirrord_trace.agent.wire.messages import Message
from mirrord_trace.agent.workers import Workers

TIMEOUT_S = 20.0


@pytest.fixture
def root(tmp_path: Any) -> Iterator[Root]:
    """`tmp_path/root` as the root of a pod."""
    os.mkdir(tmp_path / "root")
    root = Root(os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY))
    yield root
    root.close()


@pytest.fixture
def at(tmp_path: Any, root: Root) -> Callable[[bytes], bytes]:
    """Where a path of that pod is in reality."""
    return lambda path: os.fsencode(tmp_path / "root") + path


class Stage:
    """A loop with workers, whose outcomes are waited for."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.workers = Workers(self.loop, threads=8)
        self.handles = Handles(self.loop, self.workers, self.attempt)

    def attempt(self, work: Callable[[], Message]) -> Message:
        """As the service does it; a bug shows."""
        try:
            return work()
        except OSError as error:
            return failed(error)

    def until(self, condition: Callable[[], Any]) -> None:
        """Run the loop until `condition`."""
        late: List[bool] = []
        timer = self.loop.call_later(TIMEOUT_S, lambda: late.append(True))
        while not condition():
            assert not late, "nothing happened"
            again = self.loop.call_later(0.005, self.loop.stop)
            self.loop.run()
            again.cancel()
        timer.cancel()

    def elsewhere(self, work: Callable[[], Any]) -> Any:
        """The result of something that blocks, while the loop goes on."""
        results: List[Any] = []
        thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
        thread.start()
        self.until(lambda: results)
        thread.join()
        return results[0]


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A stage."""
    stage = Stage()
    yield stage
    stage.handles.close_all()
    stage.loop.close()


@pytest.fixture
def put(at: Callable[[bytes], bytes]) -> Callable[..., bytes]:
    """`put(path, content, mode)` makes a file of the pod: where it is in reality."""

    def make(path: bytes, content: bytes = b"content", mode: int = 0o644) -> bytes:
        with open(at(path), "wb") as file:
            file.write(content)
        os.chmod(at(path), mode)
        return at(path)

    return make


@pytest.fixture
def code_of() -> Callable[..., str]:
    """`code_of(call, ...)`: the name of the errno that it fails with, "" if it does not."""

    def name(call: Callable[..., Any], *arguments: Any) -> str:
        try:
            call(*arguments)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return ""

    return name


@pytest.fixture
def same_fds() -> Iterator[None]:
    """No descriptor is left open at the end that was not at the start."""
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before

"""syscalls/files/chdir.py."""

from __future__ import annotations

import errno

from mirrord_trace.syscalls.actions import Reason
from mirrord_trace.syscalls.files.chdir import fchdir
from mirrord_trace.syscalls.files.stand_in import empty_directory
from mirrord_trace.syscalls.objects import RemoteDirectory, RemoteFile

from script import STAT, FakeTask, Script, key_of, memfd, session


def test_a_pod_directory_is_refused_and_all_else_is_the_kernels() -> None:
    context, task = session(), FakeTask()
    Script(fchdir, (5,), context=context, task=task).continues(Reason.LOCAL_OBJECT)
    task.fds = {5: empty_directory(), 6: memfd(b"x")}
    context.objects.add(key_of(task.fds[5]), RemoteDirectory(b"/d", b"/d", STAT))
    context.objects.add(key_of(task.fds[6]), RemoteFile(b"/f", b"/f", STAT))
    Script(fchdir, (5,), context=context, task=task).raises(errno.EACCES)
    Script(fchdir, (6,), context=context, task=task).continues(Reason.LOCAL_OBJECT)
    Script(fchdir, (7,), context=context, task=task).continues(Reason.LOCAL_OBJECT)

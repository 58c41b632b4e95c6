from __future__ import annotations

import os
import socket

from mirrord_trace.agent import env
from mirrord_trace.agent.options import Options
from mirrord_trace.agent.root import Root
from mirrord_trace.agent.target import Target, enter_namespaces, open_target


def target(pid, environ=()):
    return Target(pid, Root(os.open("/", os.O_PATH)), environ, (b"program", b""), b"/work", (b"/data",))


def test_the_pod_is_described_from_inside(pod):
    def describe():
        found = open_target(Options(pid=pod.pid))
        enter_namespaces(pod.pid)
        return env.pod(found)

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, b"%s %d" % (describe().hostname, len(describe().addresses)))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    assert os.read(reader, 100) == b"the-pod 0"
    os.close(reader)


def test_what_the_target_had_is_passed_on():
    found = target(os.getpid(), (b"A=1", b"B=x=y"))
    told = env.pod(found)
    found.root.close()
    assert told.environ == (b"A=1", b"B=x=y")
    assert (told.arguments, told.working_directory) == ((b"program", b""), b"/work")
    assert told.volumes == (b"/data",)
    assert told.hostname == os.fsencode(socket.gethostname())


def test_the_hostname_of_a_namespace_that_is_not_ours_is_in_the_environment(pod):
    for environ, expected in (((b"HOSTNAME=web-1",), b"web-1"), ((), os.fsencode(socket.gethostname()))):
        found = target(pod.pid, environ)
        assert env.pod(found).hostname == expected
        found.root.close()

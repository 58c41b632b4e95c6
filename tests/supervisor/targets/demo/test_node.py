from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys

import pytest
from mirrord_trace.supervisor.targets.demo import network
from mirrord_trace.supervisor.targets.demo.pod import DemoPod

# Starts a pod, says its number, and lives until it is killed.
_STARTER = """
import signal
from mirrord_trace.supervisor.targets.demo.pod import DemoPod
print(DemoPod().start(), flush=True)
signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_pod_dies_with_its_starter(number: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    starter = subprocess.Popen([sys.executable, "-c", _STARTER], env=environment, stdout=subprocess.PIPE, text=True)
    with starter:
        assert starter.stdout is not None
        pidfd = os.pidfd_open(int(starter.stdout.readline()))
        starter.send_signal(number)
        starter.wait()
        # Readable once the process has ended.
        assert select.select([pidfd], [], [], 10)[0]
        os.close(pidfd)


def test_sockets_belong_to_the_namespace_that_was_asked_for(pod: DemoPod) -> None:
    with pod.open_socket() as here, pod.open_socket(in_pod=True) as there:
        here.bind((network.CLIENT[0], 0))
        there.bind((network.POD[0], 0))
        with pod.open_socket(in_pod=True) as wrong, pytest.raises(OSError, match="Cannot assign"):
            wrong.bind((network.CLIENT[0], 0))


def test_a_refused_socket_is_an_error_and_no_end(pod: DemoPod) -> None:
    with pytest.raises(OSError, match=r"."):
        pod.open_socket(family=250)
    pod.open_socket(socket.AF_INET6, socket.SOCK_DGRAM).close()

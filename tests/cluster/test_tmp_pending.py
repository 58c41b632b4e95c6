import os, signal, subprocess, sys, time
import pytest
from .product import *
from .test_channel import _kill_worker, _kill_guard, _delete_pod
SILENT = """
import socket, time
l = socket.create_server(("", 80)); print("ready", flush=True)
held = []
while True:
    c, p = l.accept(); held.append(c); print("accepted", flush=True)
"""
def term(tool, run): run.process.terminate()
def kill(tool, run): run.process.kill()
@pytest.mark.parametrize("how", [_kill_worker, _kill_guard, _delete_pod, "term", "kill"])
def test_pending(how, each_tool, visitor_pod):
    tool = each_tool
    k = tool.cluster.kubectl
    with tool.running("/usr/bin/python3", "-ISc", SILENT) as run:
        run.await_text("ready")
        p = subprocess.Popen([str(k.binary), "exec", "visitor", "--", "wget", "-qO-", f"http://{tool.pod.ip}/x"], env=k.environment(), stdout=-1, stderr=-1, text=True)
        run.await_text("accepted")
        t = time.monotonic()
        if how == "term": run.process.terminate()
        elif how == "kill": run.process.kill()
        else: how(tool)
        run.end()
        print("tool ended", time.monotonic()-t)
        try:
            print(p.communicate(timeout=8), time.monotonic()-t)
        except subprocess.TimeoutExpired:
            p.kill(); p.communicate(); raise AssertionError("the visitor hangs")

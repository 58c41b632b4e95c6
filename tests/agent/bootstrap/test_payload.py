from __future__ import annotations

import ast
import contextlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from mirrord_trace.agent.bootstrap import payload
from mirrord_trace.agent.options import Options
from mirrord_trace.agent.wire.errors import RemoteProtocolError

SECRET = b"s" * 32


def test_equal_options_make_equal_archives():
    options = Options()
    assert payload.build(options) == payload.build(options)
    assert payload.build(options) != payload.build(Options())


def test_the_archive_has_the_agent_and_its_libraries_and_nothing_of_the_client():
    options = Options(pid=7)
    with zipfile.ZipFile(io.BytesIO(payload.build(options))) as archive:
        names = set(archive.namelist())
        assert {"mirrord_trace/agent/main.py", "mirrord_trace/agent/wire/codec.py", "msgpack/fallback.py"} <= names
        assert {"h11/_connection.py", "h2/connection.py", "hpack/hpack.py", "hyperframe/frame.py"} <= names
        assert "mirrord_trace/agent/bootstrap/payload.py" not in names
        assert not [name for name in names if name.endswith(".so")]
        assert Options.decode(archive.read("mirrord_trace/agent/options.json")) == options
        assert json.loads(archive.read("mirrord_trace/agent/options.json"))["pid"] == 7
        for name in names:
            if name.endswith(".py"):
                ast.parse(archive.read(name), feature_version=(3, 9))


# The oldest Python that the agent has to run on, if there is one; else this one.
def oldest_python():
    for name in [*sorted(Path.home().glob(".pyenv/versions/3.9.*/bin/python")), "python3.9", sys.executable]:
        with contextlib.suppress(OSError):
            if subprocess.run([name, "-c", ""], capture_output=True, check=False).returncode == 0:
                return str(name)
    pytest.fail("not even this Python runs")


def test_the_archive_needs_nothing_else_and_imports_lazily(tmp_path):
    tmp_path.joinpath("payload.zip").write_bytes(payload.build(Options()))
    program = """
import sys
sys.path = [sys.argv[1], *(path for path in sys.path if "site-packages" not in path)]
import mirrord_trace.agent.main, mirrord_trace.agent.http.router
assert not {"h11", "h2", "hpack", "hyperframe", "ssl"} & set(sys.modules)
import mirrord_trace.agent.http.http2, mirrord_trace.agent.http.sample, mirrord_trace.agent.http.tls
mirrord_trace.agent.http.heads.import_h11()
assert sys.argv[1] in sys.modules["h2"].__file__, sys.modules["h2"].__file__
"""
    command = [oldest_python(), "-ISW", "error", "-c", program, str(tmp_path / "payload.zip")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_loader_is_short_and_stands_alone():
    source = payload.loader_source()
    assert len(source) < 1700
    ast.parse(source, feature_version=(3, 9))
    assert "#" not in source
    assert payload.command("python3.9") == ["python3.9", "-IuSc", source]


def test_the_environment_of_the_loader():
    assert payload.environment("fd:7", b"\1\xff") == ("MIRRORD_TRACE_BOOT", "fd:7:01ff")


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400\r\n", b"MTBOOT2\n", b"MTBOOT1\n" + bytes(65)])
def test_another_program_at_the_port_is_recognised(garbage):
    client = payload.BootClient(SECRET, b"payload")
    client.output()
    with pytest.raises(RemoteProtocolError, match="not mirrord-trace's agent"):
        client.receive(garbage)


def test_garbage_is_recognised_at_its_first_byte():
    with pytest.raises(RemoteProtocolError):
        payload.BootClient(SECRET, b"payload").receive(b"H")


def test_nothing_is_sent_to_who_does_not_know_the_secret():
    client = payload.BootClient(SECRET, b"payload")
    assert len(client.output()) == 32
    with pytest.raises(RemoteProtocolError, match="boot secret"):
        client.receive(b"MTBOOT1\n" + bytes(64))
    assert client.output() == b""
    assert not client.done

from __future__ import annotations

import ast
import io
import json
import zipfile

import pytest
from mirrord_trace.agent.bootstrap import payload
from mirrord_trace.agent.options import Options
from mirrord_trace.agent.wire.errors import RemoteProtocolError

SECRET = b"s" * 32


def test_equal_options_make_equal_archives():
    options = Options()
    assert payload.build(options) == payload.build(options)
    assert payload.build(options) != payload.build(Options())


def test_the_archive_has_the_agent_and_msgpack_and_nothing_of_the_client():
    options = Options(pid=7)
    with zipfile.ZipFile(io.BytesIO(payload.build(options))) as archive:
        names = set(archive.namelist())
        assert {"mirrord_trace/agent/main.py", "mirrord_trace/agent/wire/codec.py", "msgpack/fallback.py"} <= names
        assert "mirrord_trace/agent/bootstrap/payload.py" not in names
        assert not [name for name in names if name.endswith(".so")]
        assert Options.decode(archive.read("mirrord_trace/agent/options.json")) == options
        assert json.loads(archive.read("mirrord_trace/agent/options.json"))["pid"] == 7
        for name in names:
            if name.endswith(".py"):
                ast.parse(archive.read(name), feature_version=(3, 9))


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

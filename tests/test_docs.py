"""The documents keep up with the product: links lead somewhere, every option and key is described, none is invented."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from file_call_numbers import NAMES as FILE_CALLS
from mirrord_trace.supervisor.cli.bench import bench
from mirrord_trace.supervisor.cli.doctor import doctor
from mirrord_trace.supervisor.cli.ls import ls
from mirrord_trace.supervisor.cli.main import run_command
from mirrord_trace.supervisor.config import overlays, schema, support
from mirrord_trace.syscalls.table import COPIED_ROWS, MOUNTED_ROWS, NETWORK_ROWS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIGURATION = ROOT / "docs" / "configuration.md"
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
# Long options, and the short ones that stand alone in backticks.
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
# Of other programs, or of mirrord and named as missing.
_FOREIGN = {
    *("--rounds", "--pin", "--json", "--urgent"),  # benchmarks/stops.py
    *("--seccomp-bpf", "--cap-add"),  # strace, docker
    *("--agent-log-level", "--agent-ttl", "--no-telemetry", "--disable-version-check"),
    "--strict",  # mypy
    "--only-same-user",  # dlv
}


def _prose(document: Path) -> str:
    return _FENCE.sub("", document.read_text(encoding="utf-8"))


def _anchors(document: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", _prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def _options(command: click.Command) -> set[str]:
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts) if name.startswith("-")}


def _described(name: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-]*\w)", CONFIGURATION.read_text(encoding="utf-8")) is not None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in _LINK.findall(_prose(document)):
        if link.startswith(("https://", "http://")):
            continue
        place, _, anchor = link.partition("#")
        target = (document.parent / place).resolve() if place else document
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert not broken


def test_readme_leads_to_every_document() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in _LINK.findall(_prose(DOCUMENTS[0]))}
    assert not [document.name for document in DOCUMENTS[1:] if document not in linked]


@pytest.mark.parametrize("command", [run_command, ls, doctor, bench], ids=lambda command: str(command.name))
def test_every_option_is_described(command: click.Command) -> None:
    options = _options(command) | set(command.context_settings.get("help_option_names", ()))
    assert not [option for option in sorted(options) if not _described(option)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_option_is_invented(document: Path) -> None:
    """kubectl's and pip's command lines stand in fences or indented, where nothing is looked at."""
    text = re.sub(r"^    .*$", "", _prose(document), flags=re.MULTILINE)
    known = _options(run_command) | _options(ls) | _options(doctor) | _options(bench) | {"--help"} | _FOREIGN
    assert not set(_OPTION.findall(text)) - known


def test_every_key_is_described() -> None:
    tables = {key.rpartition(".")[0] for key in schema.all_keys()}
    assert not [key for key in schema.all_keys() if key not in tables and not _described(key)]


def test_keys_that_warn_are_described_as_such() -> None:
    text = CONFIGURATION.read_text(encoding="utf-8")
    section = text.partition("\n## Keys that give a warning\n")[2].partition("\n## ")[0]
    assert not [key for key in (*support._LATER, *support._PAID) if f"`{key}`" not in section]


def test_every_variable_is_described() -> None:
    assert not [name for name in overlays._VARIABLES if not _described("MIRRORD_" + name)]


def test_no_variable_is_invented() -> None:
    known = {"MIRRORD_" + name for name in overlays._VARIABLES}
    known |= {"MIRRORD_CONFIG_FILE", "MIRRORD_LOG", "MIRRORD_TRACE_DEMO_PID"}
    named = re.findall(r"MIRRORD_[A-Z_0-9]*[A-Z0-9]", CONFIGURATION.read_text(encoding="utf-8"))
    assert sorted(set(named) - known) == []


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        named = re.findall(r"(?:`|^ {4})make ([a-z-]+)", text, re.MULTILINE)
        assert not set(named) - targets, document.name


def test_the_changelog_knows_this_version() -> None:
    version = re.search(r'^version = "([^"]+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert version is not None
    assert version[1] in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


SOCKETS = ROOT / "docs" / "sockets.md"
FILES = ROOT / "docs" / "files.md"
# All calls of the kernel's table that are about sockets and nothing else (net/socket.c), whatever the machine.
_SOCKET_CALLS = {
    *("socket", "socketpair", "bind", "listen", "accept", "accept4", "connect", "getsockname", "getpeername", "sendto"),
    *("sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg", "setsockopt", "getsockopt", "shutdown", "socketcall"),
}


# Every row of a table names tests, in its last cell.
def _rows(document: Path) -> dict[str, str]:
    rows = re.findall(r"^\| ([^|]+) \|.*\|([^|]*)\|$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {word: last for first, last in rows for word in re.findall(r"\w+", first)}


def test_every_socket_call_has_its_row() -> None:
    assert not (_SOCKET_CALLS | {row.name for row in NETWORK_ROWS}) - set(_rows(SOCKETS))


def test_every_file_call_has_its_row_with_a_test() -> None:
    described = _rows(FILES)
    wanted = FILE_CALLS | {row.name for row in (*MOUNTED_ROWS, *COPIED_ROWS)} - {"uname"}
    assert not wanted - set(described)
    assert not [name for name in wanted if "`tests/" not in described[name]]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_that_is_named_exists(document: Path) -> None:
    missing = []
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", document.read_text(encoding="utf-8")):
        path = ROOT / file
        if not path.exists() or not re.search(rf"^(    )?def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE):
            missing.append(f"{file}::{name}")
    assert not missing

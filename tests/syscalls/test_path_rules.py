"""mirrord's file rules, one row each."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.syscalls.actions import Decision, Reason, Route
from mirrord_trace.syscalls.path_rules import FileConfig, FsMode, PathRules, PatternError, compile_pattern

MACHINE = {
    "home": b"/users/ann",
    "working_directory": b"/work/shop+1",
    "temporary_directory": b"/scratch",
    "executable": b"/build/out/server",
}


def decide(path: bytes, write: bool = False, *, remote_names: bool = True, **config: Any) -> Decision:
    return PathRules(FileConfig(**{**MACHINE, **config}), remote_names=remote_names).decide(path, write)


TREES = [
    *("/proc", "/sys", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/usr", "/home", "/bin", "/sbin", "/dev", "/opt"),
    *("/tmp", "/var/tmp", "/var/db/timezone/zoneinfo", "/snap", "/run", "/selinux", "/nix"),
    *("/work/shop+1", "/scratch"),
]


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("below", ["", "/x", "/x/y"])
def test_trees_are_local(tree: str, below: str) -> None:
    assert decide((tree + below).encode()) == Decision(Route.LOCAL, Reason.DEFAULT_LOCAL)


@pytest.mark.parametrize("tree", TREES)
def test_neighbours_of_trees_are_remote(tree: str) -> None:
    path = f"{tree}-x/y".encode()
    assert decide(path) == Decision(Route.REMOTE, Reason.FS_MODE, path)


SUFFIXES = ["so", "so.6", "so.1.2.3", "sh", "rb", "d", "pyc", "py", "jar", "class", "js", "pth", "plist", "pdb", "dll"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_suffixes_are_local(suffix: str) -> None:
    assert decide(f"/app/x.{suffix}".encode()).reason is Reason.DEFAULT_LOCAL
    assert decide(f"/app/x.{suffix}x".encode()).reason is Reason.FS_MODE
    assert decide(f"/app/x.{suffix}/y".encode()).reason is Reason.FS_MODE


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/build/out/server", "/users/ann/.bashrc", "/users/ann/.cache/x", "/app/pyvenv.cfg", "/app/jvm.cfg"),
        *("/app/clr-debug-pipe-1", "/app/package.json", "/app/.yarnrc", "/app/.yarnrc.yml", "/app/.yarnrc.json"),
        *("/app/node_modules", "/app/node_modules/x/y", "/app/.asdf/x", "/app/.tool-versions", "/Program Files/x"),
        *("/ETC/passwd", "/app/X.PY", "/proc/self/exe", "/run/secrets/x"),
    ],
)
def test_local_by_default(path: str) -> None:
    assert decide(path.encode()) == Decision(Route.LOCAL, Reason.DEFAULT_LOCAL)


@pytest.mark.parametrize(
    "path",
    [
        *("/data/x", "/var/run/secrets/kubernetes.io/serviceaccount/token", "/app/config.json", "/srv/x.sox"),
        *("/users/ann", "/users/ann/notes", "/build/out/server2", "/build/out", "/work", "/app/myjvm.cfgx", "/app/so"),
        *("/var/log/x", "/app/package.json.bak", "/root/x"),
    ],
)
def test_remote_in_mode_read(path: str) -> None:
    name = path.encode()
    assert decide(name) == Decision(Route.REMOTE, Reason.FS_MODE, name)
    assert decide(name, write=True) == Decision(Route.LOCAL, Reason.WRITE_ACCESS)
    assert decide(name, mode=FsMode.LOCAL_WITH_OVERRIDES) == Decision(Route.LOCAL, Reason.FS_MODE)
    assert decide(name, mode=FsMode.LOCAL) == Decision(Route.LOCAL, Reason.FS_MODE_LOCAL)
    assert decide(name, mode=FsMode.WRITE) == Decision(Route.REMOTE, Reason.FS_MODE, name)
    assert decide(name, write=True, mode=FsMode.WRITE) == Decision(Route.LOCAL, Reason.UNSUPPORTED)


REMOTE_ANYWAY = [b"/etc/resolv.conf", b"/etc/hosts", b"/etc/hostname", b"/etc/ssl/certs", b"/etc/ssl/certs/a/b.pem"]


@pytest.mark.parametrize("path", REMOTE_ANYWAY)
@pytest.mark.parametrize("mode", [FsMode.READ, FsMode.WRITE, FsMode.LOCAL_WITH_OVERRIDES])
def test_remote_by_default(path: bytes, mode: FsMode) -> None:
    assert decide(path, mode=mode) == Decision(Route.REMOTE, Reason.DEFAULT_REMOTE, path)
    assert decide(path, write=True, mode=mode) == Decision(Route.LOCAL, Reason.WRITE_ACCESS)


@pytest.mark.parametrize("path", [*REMOTE_ANYWAY, b"/users/ann/.kube/config"])
def test_mode_local_is_local(path: bytes) -> None:
    assert decide(path, mode=FsMode.LOCAL, not_found=(".",)) == Decision(Route.LOCAL, Reason.FS_MODE_LOCAL)


@pytest.mark.parametrize("path", [b"/etc/hostsx", b"/etc/ssl/certsx", b"/etc/ssl", b"/etc/resolv_conf"])
def test_not_remote_by_default(path: bytes) -> None:
    assert decide(path).reason is Reason.DEFAULT_LOCAL


def test_without_remote_names_the_name_files_are_local() -> None:
    assert decide(b"/etc/resolv.conf", remote_names=False) == Decision(Route.LOCAL, Reason.DNS_OFF)
    assert decide(b"/etc/hosts", remote_names=False) == Decision(Route.LOCAL, Reason.DNS_OFF)
    assert decide(b"/etc/hostname", remote_names=False).reason is Reason.DEFAULT_REMOTE
    assert decide(b"/etc/hosts", remote_names=False, read_only=("hosts",)).reason is Reason.PATTERN_READ_ONLY


@pytest.mark.parametrize("name", [".config/gcloud", ".kube", ".azure"])
def test_hidden_by_default(name: str) -> None:
    for path in (f"/users/ann/{name}", f"/users/ann/{name}/config"):
        assert decide(path.encode()) == Decision(Route.MISSING, Reason.DEFAULT_NOT_FOUND)
        assert decide(path.encode(), write=True) == Decision(Route.MISSING, Reason.DEFAULT_NOT_FOUND)
    assert decide(f"/users/ann/{name}ctl".encode()).reason is Reason.DEFAULT_LOCAL
    assert decide(f"/users/bob/{name}".encode()).reason is Reason.FS_MODE


def test_the_order_of_the_lists() -> None:
    lists = ["not_found", "read_write", "read_only", "local"]
    reasons = [Reason.PATTERN_NOT_FOUND, Reason.PATTERN_READ_WRITE, Reason.PATTERN_READ_ONLY, Reason.PATTERN_LOCAL]
    for first, reason in enumerate(reasons):
        config: dict[str, Any] = dict.fromkeys(lists[first:], (r"/etc/hosts$",))
        assert decide(b"/etc/hosts", **config).reason is reason
        assert decide(b"/etc/hosts", mode=FsMode.LOCAL_WITH_OVERRIDES, **config).reason is reason


def test_lists_come_before_hidden_by_default() -> None:
    assert decide(b"/users/ann/.kube/config", local=(r"\.kube",)).reason is Reason.PATTERN_LOCAL
    assert decide(b"/users/ann/.kube/config", read_only=(r"\.kube",)).route is Route.REMOTE


def test_writing_to_listed_paths() -> None:
    assert decide(b"/etc/x", True, read_only=("x",)) == Decision(Route.LOCAL, Reason.WRITE_ACCESS)
    assert decide(b"/etc/x", True, read_write=("x",)) == Decision(Route.LOCAL, Reason.UNSUPPORTED)
    assert decide(b"/data/x", True, not_found=("x",)) == Decision(Route.MISSING, Reason.PATTERN_NOT_FOUND)


def test_patterns_are_searched_and_ignore_case() -> None:
    assert decide(b"/data/Secret/x", not_found=("SECRET",)).route is Route.MISSING
    assert decide("/data/ÉTÉ".encode(), not_found=("été",)).route is Route.MISSING
    assert decide("/data/é".encode(), not_found=("^/data/.$",)).route is Route.MISSING


def test_paths_need_not_be_text() -> None:
    path = b"/data/\xff\n"
    assert decide(path) == Decision(Route.REMOTE, Reason.FS_MODE, path)
    assert decide(path, mapping=(("^/data", "/pod"),)) == Decision(Route.REMOTE, Reason.FS_MODE, b"/pod/\xff\n")


@pytest.mark.parametrize("path", [b"x", b"../x", b""])
def test_relative_paths(path: bytes) -> None:
    assert decide(path) == Decision(Route.LOCAL, Reason.RELATIVE_PATH)


def test_relative_paths_can_be_hidden() -> None:
    assert decide(b"x", not_found=("x",)) == Decision(Route.MISSING, Reason.PATTERN_NOT_FOUND)


@pytest.mark.parametrize(
    ("mapping", "path", "mapped"),
    [
        ([("/foo", "/bar")], b"/foo/foo", b"/bar/foo"),
        ([("/FOO", "/bar")], b"/foo", b"/bar"),
        ([("/(baz)", "/m-$1")], b"/baz/t", b"/m-baz/t"),
        ([("^/h/(?<user>[^/]+)/(?<app>.+)", "/mnt/${user}-$app")], b"/h/ann/api/c", b"/mnt/ann-api/c"),
        ([("^/h/(?P<user>.+)", "/mnt/$user.$$")], b"/h/ann", b"/mnt/ann.$"),
        ([("^/(a)?b", "/x$1$2$9${none}")], b"/b", b"/x"),
        ([("/one", "/1"), ("/", "/2")], b"/one", b"/1"),
        ([("/no", "/1")], b"/data", b"/data"),
    ],
)
def test_mapping(mapping: list[tuple[str, str]], path: bytes, mapped: bytes) -> None:
    assert decide(path, mapping=tuple(mapping)) == Decision(Route.REMOTE, Reason.FS_MODE, mapped)


def test_mapping_comes_first() -> None:
    mapping = (("^/data", "/etc"),)
    assert decide(b"/data/x", mapping=mapping) == Decision(Route.LOCAL, Reason.DEFAULT_LOCAL, b"/etc/x")
    assert decide(b"/data/x", mapping=mapping, not_found=("^/etc",)).route is Route.MISSING
    assert decide(b"/data/hosts", mapping=mapping) == Decision(Route.REMOTE, Reason.DEFAULT_REMOTE, b"/etc/hosts")
    assert decide(b"/data/x", mapping=mapping, mode=FsMode.LOCAL) == Decision(Route.LOCAL, Reason.FS_MODE_LOCAL)


def test_the_root_as_a_place_makes_nothing_local() -> None:
    config: dict[str, Any] = {"working_directory": b"/", "temporary_directory": b"/", "executable": b"/", "home": b"/"}
    assert decide(b"/data/x", **config).route is Route.REMOTE
    assert decide(b"/.kube/config", **config).route is Route.MISSING
    assert decide(b"/.hidden", **config).route is Route.LOCAL


def test_unknown_places_make_nothing_local() -> None:
    rules = PathRules(FileConfig(temporary_directory=b""))
    assert rules.decide(b"/.kube/config", False).route is Route.REMOTE
    assert rules.decide(b"/data", False).route is Route.REMOTE


@pytest.mark.parametrize("pattern", ["(", "[[:alpha:]]", r"\p{L}", "a{99999999999}", "*", "(?<n>a)(?<n>b)"])
def test_patterns_that_do_not_work(pattern: str) -> None:
    with pytest.raises(PatternError, match=r"^feature\.fs\.local: the pattern .* does not work: ."):
        PathRules(FileConfig(local=("fine", pattern)))


@pytest.mark.parametrize(("pattern", "text"), [(r"(?<x>a)\z", "a"), (r"(?<=a)b", "ab"), (r"\(?<a>", "<a>"), (r"\\z", r"\z")])
def test_spellings_of_rust(pattern: str, text: str) -> None:
    assert compile_pattern("key", pattern).search(text)


def test_case_can_matter() -> None:
    assert not compile_pattern("key", "A", ignore_case=False).search("a")


@given(st.text())
def test_any_pattern_compiles_or_is_refused(pattern: str) -> None:
    with suppress(PatternError):
        compile_pattern("key", pattern).search("/data/x")


@given(st.binary().map(lambda rest: b"/" + rest), st.booleans())
def test_any_path_has_a_decision(path: bytes, write: bool) -> None:
    decision = decide(path, write)
    assert decision.path == (path if decision.route is Route.REMOTE else b"")
    assert not (write and decision.route is Route.REMOTE)


@pytest.mark.parametrize(
    ("path", "mapped"),
    [
        (b"/proc/net", b"/proc/net"),
        (b"/proc/net/tcp", b"/proc/net/tcp"),
        (b"/proc/self/net/dev_snmp6/lo", b"/proc/self/net/dev_snmp6/lo"),
        (b"/proc/thread-self/net/route", b"/proc/self/net/route"),
        (b"/sys/class/net", b"/sys/class/net"),
        (b"/sys/class/net/eth0/mtu", b"/sys/class/net/eth0/mtu"),
        (b"/sys/devices/virtual/net/lo", b"/sys/devices/virtual/net/lo"),
    ],
)
def test_the_network_is_the_pods(path: bytes, mapped: bytes) -> None:
    assert decide(path) == Decision(Route.REMOTE, Reason.POD_INTERFACES, mapped)
    assert decide(path, write=True) == Decision(Route.LOCAL, Reason.WRITE_ACCESS)
    assert decide(path, local=("^/(proc|sys)/.*net",)) == Decision(Route.LOCAL, Reason.PATTERN_LOCAL)
    assert decide(path, mode=FsMode.LOCAL) == Decision(Route.LOCAL, Reason.FS_MODE_LOCAL)
    rules = PathRules(FileConfig(), remote_interfaces=False)
    assert rules.decide(path, False) == Decision(Route.LOCAL, Reason.DEFAULT_LOCAL)


@pytest.mark.parametrize(
    "path", [b"/proc/network", b"/proc/1/net/tcp", b"/proc/sys/net/core/somaxconn", b"/sys/class/network"]
)
def test_what_only_looks_like_the_network_is_local(path: bytes) -> None:
    assert decide(path) == Decision(Route.LOCAL, Reason.DEFAULT_LOCAL)

"""mirrord's file rules, one row each."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.syscalls import path_rules
from mirrord_trace.syscalls.actions import Decision, Reason, Route
from mirrord_trace.syscalls.path_rules import FileConfig, FsMode, PathRules, PatternError, compile_pattern

MACHINE = {
    "home": b"/users/ann",
    "working_directory": b"/work/shop+1",
    "temporary_directory": b"/scratch",
    "executables": (b"/build/out/server",),
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
    assert decide(name, write=True, mode=FsMode.WRITE) == Decision(Route.REMOTE, Reason.FS_MODE, name)
    assert decide(name, write=True, mode=FsMode.LOCAL_WITH_OVERRIDES) == Decision(Route.LOCAL, Reason.FS_MODE)
    assert decide(name, write=True, mode=FsMode.LOCAL) == Decision(Route.LOCAL, Reason.FS_MODE_LOCAL)


REMOTE_ANYWAY = [b"/etc/resolv.conf", b"/etc/hosts", b"/etc/hostname", b"/etc/ssl/certs", b"/etc/ssl/certs/a/b.pem"]


@pytest.mark.parametrize("path", REMOTE_ANYWAY)
@pytest.mark.parametrize("mode", [FsMode.READ, FsMode.WRITE, FsMode.LOCAL_WITH_OVERRIDES])
def test_remote_by_default(path: bytes, mode: FsMode) -> None:
    assert decide(path, mode=mode) == Decision(Route.REMOTE, Reason.DEFAULT_REMOTE, path)
    assert decide(path, write=True, mode=mode) == Decision(Route.LOCAL, Reason.DEFAULT_READ_ONLY)


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


@pytest.mark.parametrize("mode", [FsMode.READ, FsMode.WRITE, FsMode.LOCAL_WITH_OVERRIDES])
def test_writing_to_listed_paths(mode: FsMode) -> None:
    def written(path: bytes, **config: Any) -> Decision:
        return decide(path, True, mode=mode, **config)

    assert written(b"/etc/x", read_only=("x",)) == Decision(Route.LOCAL, Reason.PATTERN_READ_ONLY)
    assert written(b"/etc/x", read_write=("x",)) == Decision(Route.REMOTE, Reason.PATTERN_READ_WRITE, b"/etc/x")
    assert written(b"/data/x", not_found=("x",)) == Decision(Route.MISSING, Reason.PATTERN_NOT_FOUND)
    assert written(b"/data/x", local=("x",)) == Decision(Route.LOCAL, Reason.PATTERN_LOCAL)
    assert written(b"/data/x", mapping=(("^/data", "/etc"),)) == Decision(Route.LOCAL, Reason.DEFAULT_LOCAL, b"/etc/x")
    both: dict[str, Any] = {"read_write": ("^/pod/own",), "mapping": (("^/data", "/pod/own"),)}
    assert written(b"/data/x", **both) == Decision(Route.REMOTE, Reason.PATTERN_READ_WRITE, b"/pod/own/x")


def test_in_mode_local_no_list_is_looked_at() -> None:
    for write in (False, True):
        decision = decide(b"/data/x", write, mode=FsMode.LOCAL, read_write=(".",), volumes=(b"/data",), from_pod=True)
        assert decision == Decision(Route.LOCAL, Reason.FS_MODE_LOCAL)


VOLUMES = (b"/etc/app", b"/users/ann/.aws", b"/data/\xff.d/", b"/opt/x.py", b"/")


@pytest.mark.parametrize("path", [b"/etc/app", b"/etc/app/a/b.sh", b"/users/ann/.aws/config", b"/data/\xff.d", b"/opt/x.py"])
@pytest.mark.parametrize("mode", [FsMode.READ, FsMode.WRITE, FsMode.LOCAL_WITH_OVERRIDES])
def test_volumes_are_read_from_the_pod(path: bytes, mode: FsMode) -> None:
    assert decide(path, mode=mode, volumes=VOLUMES) == Decision(Route.REMOTE, Reason.VOLUME, path)
    assert decide(path, True, mode=mode, volumes=VOLUMES) == Decision(Route.LOCAL, Reason.VOLUME)


@pytest.mark.parametrize("path", [b"/etc/apps", b"/etc", b"/ETC/app", b"/opt/x.pyc", b"/"])
def test_only_what_is_on_a_volume(path: bytes) -> None:
    assert decide(path, volumes=VOLUMES).reason is Reason.DEFAULT_LOCAL


def test_the_lists_of_the_user_win_over_volumes() -> None:
    config: dict[str, Any] = {"volumes": (b"/etc/app",)}
    path = b"/etc/app/x"
    assert decide(path, not_found=("app",), **config).reason is Reason.PATTERN_NOT_FOUND
    assert decide(path, local=("app",), **config).reason is Reason.PATTERN_LOCAL
    assert decide(path, True, read_write=("app",), **config) == Decision(Route.REMOTE, Reason.PATTERN_READ_WRITE, path)


def test_the_own_configuration_for_aws_is_hidden() -> None:
    for path in (b"/users/ann/.aws", b"/users/ann/.aws/sso/cache"):
        for write in (False, True):
            assert decide(path, write) == Decision(Route.MISSING, Reason.AWS)
            assert decide(path, write, hides_aws=False) == Decision(Route.LOCAL, Reason.DEFAULT_LOCAL)
    assert decide(b"/users/ann/.awsx").reason is Reason.DEFAULT_LOCAL
    assert decide(b"/users/ann/.aws/config", local=(r"\.aws/",)).reason is Reason.PATTERN_LOCAL


PODS = [b"/", b"/usr/bin/python3", b"/etc/passwd", b"/users/ann/.kube/config", b"/work/shop+1/x", b"/app/x.py", b"/etc/hosts"]


@pytest.mark.parametrize("path", PODS)
def test_the_pods_own_program_finds_everything_in_the_pod(path: bytes) -> None:
    there = Decision(Route.REMOTE, Reason.FROM_POD, path)
    config: dict[str, Any] = {"from_pod": True, "volumes": (b"/etc",)}
    assert decide(path, **config) == there
    assert decide(path, True, **config) == Decision(Route.LOCAL, Reason.WRITE_ACCESS)
    assert decide(path, True, mode=FsMode.WRITE, **config) == there


def test_what_is_this_machines_even_for_the_pods_own_program() -> None:
    machines = Decision(Route.LOCAL, Reason.FROM_POD_LOCAL)
    for mode in (FsMode.READ, FsMode.WRITE):
        for path in (b"/proc", b"/proc/self/maps", b"/sys/kernel", b"/dev/null", b"/dev/shm/x"):
            assert decide(path, from_pod=True, mode=mode) == decide(path, True, from_pod=True, mode=mode) == machines
        assert decide(b"/process", from_pod=True, mode=mode).route is Route.REMOTE
        assert decide(b"/proc/net/tcp", from_pod=True, mode=mode).reason is Reason.POD_INTERFACES
    for path in (b"/tmp", b"/tmp/x", b"/var/tmp/x"):
        assert decide(path, from_pod=True) == decide(path, True, from_pod=True) == machines
        assert decide(path, True, from_pod=True, mode=FsMode.WRITE) == Decision(Route.REMOTE, Reason.FROM_POD, path)
    assert decide(b"/etc/hosts", from_pod=True, remote_names=False).reason is Reason.DNS_OFF
    assert decide(b"/etc/x", from_pod=True, local=("x",)).reason is Reason.PATTERN_LOCAL


@pytest.mark.parametrize(
    ("config", "writable", "other"),
    [
        ({"mode": FsMode.WRITE}, b"/data/x", b"/etc/x"),
        ({"mode": FsMode.WRITE, "volumes": (b"/data",)}, b"/srv/x", b"/data/x"),
        ({"read_write": ("^/data/",)}, b"/data/x", b"/srv/x"),
        ({"read_write": ("^/data/",), "read_only": (".",)}, b"/data/x", b"/srv/x"),
        ({"read_write": ("^/data/",), "not_found": ("y$",)}, b"/data/x", b"/data/y"),
        ({"mode": FsMode.LOCAL_WITH_OVERRIDES, "read_write": ("^/etc/",)}, b"/etc/x", b"/data/x"),
        ({"mode": FsMode.WRITE, "mapping": (("^/data", "/etc"),)}, b"/data/x", b"/etc/x"),
        ({"mode": FsMode.WRITE, "from_pod": True}, b"/etc/x", b"/dev/x"),
    ],
)
def test_what_may_be_changed_in_the_pod(config: dict[str, Any], writable: bytes, other: bytes) -> None:
    rules = PathRules(FileConfig(**{**MACHINE, **config}))
    for _ in range(2):
        assert rules.may_write(writable)
        assert not rules.may_write(other)


@pytest.mark.parametrize("mode", [FsMode.LOCAL, FsMode.READ])
def test_nothing_may_be_changed_in_these_modes(mode: FsMode) -> None:
    rules = PathRules(FileConfig(mode=mode))
    assert not rules.may_write(b"/data/x")
    assert not rules.may_write(b"data")


def test_what_may_be_read_of_the_pod() -> None:
    rules = PathRules(FileConfig(mode=FsMode.READ, not_found=("secret",), local=("^/here",)))
    for path, may in ((b"/data/x", True), (b"/data/secret", False), (b"/here/x", False), (b"/etc/hosts", True)):
        assert rules.may_read(path) is may
    assert not PathRules(FileConfig(mode=FsMode.LOCAL)).may_read(b"/data/x")


def test_what_may_be_written_is_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_rules, "_CACHE_LIMIT", 3)
    rules = PathRules(FileConfig(mode=FsMode.WRITE))
    assert all(rules.may_write(b"/data/%d" % number) for number in range(10))
    assert len(rules._writable) <= 3


def test_the_pattern_that_decided() -> None:
    lists: dict[str, Any] = {"not_found": ("a", "(?<n>b)"), "read_write": ("c",), "read_only": ("d",), "local": ("e",)}
    rules = PathRules(FileConfig(mapping=(("^/map", "/e"),), **lists))
    for path, pattern in ((b"/b", "(?<n>b)"), (b"/c", "c"), (b"/d", "d"), (b"/e", "e"), (b"/x", ""), (b"/map", "e")):
        assert rules.pattern_of(path, rules.decide(path, False)) == pattern


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
    config: dict[str, Any] = {"working_directory": b"/", "temporary_directory": b"/", "executables": (b"/",), "home": b"/"}
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


@given(st.binary().map(lambda rest: b"/" + rest), st.sampled_from(FsMode), st.booleans())
def test_what_is_written_to_the_pod_is_read_from_it(path: bytes, mode: FsMode, from_pod: bool) -> None:
    rules = PathRules(FileConfig(mode=mode, read_write=("w",), local=("l",), volumes=(b"/v",), from_pod=from_pod))
    written, read = rules.decide(path, True), rules.decide(path, False)
    assert rules.may_write(path) == (written.route is Route.REMOTE)
    if written.route is Route.REMOTE:
        assert read == written


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
    assert decide(path, write=True) == Decision(Route.LOCAL, Reason.DEFAULT_READ_ONLY)
    assert decide(path, local=("^/(proc|sys)/.*net",)) == Decision(Route.LOCAL, Reason.PATTERN_LOCAL)
    assert decide(path, mode=FsMode.LOCAL) == Decision(Route.LOCAL, Reason.FS_MODE_LOCAL)
    rules = PathRules(FileConfig(), remote_interfaces=False)
    assert rules.decide(path, False) == Decision(Route.LOCAL, Reason.DEFAULT_LOCAL)


@pytest.mark.parametrize(
    "path", [b"/proc/network", b"/proc/1/net/tcp", b"/proc/sys/net/core/somaxconn", b"/sys/class/network"]
)
def test_what_only_looks_like_the_network_is_local(path: bytes) -> None:
    assert decide(path) == Decision(Route.LOCAL, Reason.DEFAULT_LOCAL)


@pytest.mark.parametrize("write", [False, True])
def test_of_local_trees_everything_is_local(write: bool) -> None:
    config = FileConfig(home=b"/tmp/Home", working_directory=b"/work/x/", volumes=(b"/opt/data", b"/run"))
    rules = PathRules(config)
    trees = rules.local_trees()
    assert b"/usr/" in trees
    assert b"/work/x/" in trees
    assert not {b"/opt/", b"/run/", b"/tmp/"} & set(trees)
    for tree in trees:
        for name in (b"x", b"x.py", b"etc/hosts", b".kube/config", b"a/b"):
            decision = rules.decide(tree + name, write)
            assert (decision.route, decision.path) == (Route.LOCAL, b"")


@pytest.mark.parametrize(
    "config",
    [
        FileConfig(not_found=("x",)),
        FileConfig(read_only=("x",)),
        FileConfig(read_write=("x",)),
        FileConfig(mapping=(("a", "b"),)),
        FileConfig(from_pod=True),
    ],
)
def test_with_patterns_of_the_user_no_tree_is_plainly_local(config: FileConfig) -> None:
    assert PathRules(config).local_trees() == ()


def test_working_in_the_machines_own_places_is_no_local_tree() -> None:
    assert not {b"/etc/x/", b"/proc/"} & set(PathRules(FileConfig(working_directory=b"/etc/x")).local_trees())
    assert PathRules(FileConfig(mode=FsMode.LOCAL)).local_trees() == (b"/",)

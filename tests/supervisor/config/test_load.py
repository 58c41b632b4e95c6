from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrord_trace.agent.wire.messages import Pod
from mirrord_trace.supervisor.config.file_system import FileSystemConfig
from mirrord_trace.supervisor.config.load import Config, Machine, load
from mirrord_trace.supervisor.config.overlays import Flags
from mirrord_trace.supervisor.config.schema import Root, all_keys
from mirrord_trace.supervisor.config.skipping import read_skipping
from mirrord_trace.supervisor.config.target import PodSpec
from mirrord_trace.supervisor.environment import EnvConfig
from mirrord_trace.supervisor.errors import EXIT_USAGE, UsageError
from mirrord_trace.supervisor.targets.kubernetes.settings import AgentSettings, KubeSettings
from mirrord_trace.syscalls.incoming_rules import IncomingConfig, IncomingMode
from mirrord_trace.syscalls.network_rules import OutgoingConfig, parse_rule
from mirrord_trace.syscalls.path_rules import FileConfig, FsMode
from mirrord_trace.syscalls.policy import PolicyConfig

ENVIRON = {"HOME": "/home/ann", "TMPDIR": "/scratch"}


class Loader:
    """Writes a configuration file and loads it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, tree: object = None, flags: dict[str, Any] | None = None, **variables: str) -> Config:
        given = dict(flags or {})
        if tree is not None:
            (self.directory / "m.json").write_text(json.dumps(tree))
            given["config_file"] = "m.json"
        environ = {**ENVIRON, **{f"MIRRORD_{name}": value for name, value in variables.items()}}
        return load(Flags(**given), Machine(environ, os.fsencode(self.directory), (b"/out/server",)))


@pytest.fixture
def loaded(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


def test_the_defaults(loaded: Loader, tmp_path: Path) -> None:
    config = loaded()
    files = FileConfig(
        home=b"/home/ann",
        working_directory=os.fsencode(tmp_path),
        temporary_directory=b"/scratch",
        executables=(b"/out/server",),
    )
    assert config == Config(
        None, KubeSettings(), AgentSettings(), EnvConfig(), PolicyConfig(files=files), config.key, False, False, (),
        skipped=read_skipping(Root()),
    )  # fmt: skip
    assert config.key
    assert config.policy.incoming.mode is IncomingMode.MIRROR
    with pytest.raises(UsageError, match="no target: give -t TARGET") as refused:
        config.parsed_target()
    assert refused.value.exit_status == EXIT_USAGE


def test_flags_over_variables_over_file(loaded: Loader) -> None:
    file = {"target": {"path": "pod/file", "namespace": "file"}, "kube_context": "file", "feature": {"fs": "write"}}
    config = loaded(file, {"target": "pod/flag"}, IMPERSONATED_TARGET="pod/variable", TARGET_NAMESPACE="variable")
    assert config.target == "pod/flag"
    assert config.parsed_target() == PodSpec("flag")
    assert (config.kube.namespace, config.kube.context) == ("variable", "file")
    assert config.policy.files.mode is FsMode.WRITE


def test_the_file_can_be_named_by_a_variable(loaded: Loader, tmp_path: Path) -> None:
    (tmp_path / "v.toml").write_text('target = "demo"\n')
    assert loaded(CONFIG_FILE="v.toml").target == "demo"
    assert loaded({"target": "pid/1"}, CONFIG_FILE="v.toml").target == "pid/1"


def test_everything_that_is_supported(loaded: Loader) -> None:
    config = loaded(
        {
            "$schema": "x",
            "target": {"path": {"pod": "x", "container": "c"}, "namespace": "n"},
            "accept_invalid_certificates": True,
            "kubeconfig": "~/k",
            "kube_context": "ctx",
            "agent": {
                "image": {"registry": "mirror.example/python", "tag": "3.12"},
                "image_pull_policy": "Always",
                "image_pull_secrets": [{"name": "s"}],
                "namespace": "a",
                "ephemeral": False,
                "startup_timeout": 9,
            },
            "feature": {
                "hostname": False,
                "env": {
                    "include": "A;B_*",
                    "override": {"C": "x"},
                    "mapping": {".+_T": "1"},
                    "unset": ["D", "E"],
                },
                "fs": {
                    "mode": "localwithoverrides",
                    "read_only": ["a", "b"],
                    "local": "c",
                    "not_found": "d",
                    "mapping": {"^/a": "/b"},
                    "read_write": ["e"],
                    "readonly_file_buffer": 0,
                    "write_behind": False,
                    "attribute_seconds": 0,
                    "negative_seconds": 5,
                    "fuse": "off",
                },
                "magic": {"auto_mount": False, "aws": False, "turbo": True},
                "network": {
                    "ipv6": False,
                    "dns": False,
                    "incoming": {
                        "mode": "steal",
                        "ports": [80],
                        "ignore_localhost": True,
                        "port_mapping": [[8080, 80]],
                    },
                    "outgoing": {"udp": False, "ignore_localhost": True, "filter": {"local": ["10.0.0.0/8", ":25"]}},
                },
            },
        }
    )
    assert config.warnings == ()
    assert config.parsed_target() == PodSpec("x", "c")
    assert config.kube == KubeSettings("n", "ctx", "/home/ann/k", True)
    assert config.agent == AgentSettings("mirror.example/python:3.12", "Always", ("s",), "a", False, 9.0)
    assert (config.env.include, config.env.override, config.env.unset) == (("A", "B_*"), (("C", "x"),), ("D", "E"))
    assert [(pattern.pattern, value) for pattern, value in config.env.mapping] == [(".+_T", "1")]
    files = config.policy.files
    assert (files.mode, files.read_only, files.local) == (FsMode.LOCAL_WITH_OVERRIDES, ("a", "b"), ("c",))
    assert (files.not_found, files.mapping, files.read_write) == (("d",), (("^/a", "/b"),), ("e",))
    assert (files.hides_aws, config.env.hides_aws, config.auto_mount, config.from_pod) == (False, False, False, False)
    assert config.file_system == FileSystemConfig(False, 0.0, 5.0, False, "off")
    assert config.policy.outgoing == OutgoingConfig(
        udp=False, ignore_localhost=True, only_local=(parse_rule("10.0.0.0/8"), parse_rule(":25"))
    )
    assert config.policy.incoming == IncomingConfig(
        mode=IncomingMode.STEAL, ports=frozenset({80}), ignore_localhost=True, port_mapping=((8080, 80),)
    )
    assert (config.policy.dns, config.policy.hostname, config.policy.ipv6) == (False, False, False)


@pytest.mark.parametrize("fs", ["write", {"mode": "write", "read_write": "x"}, {"readonly_file_buffer": 128000}])
def test_writing_gives_no_warning(loaded: Loader, fs: object) -> None:
    assert loaded({"feature": {"fs": fs}}).warnings == ()


def test_variables_say_which_files_are_the_pods(loaded: Loader) -> None:
    variables = {
        "FILE_MODE": "write",
        "FILE_READ_WRITE_PATTERN": "a;b",
        "FILE_READ_ONLY_PATTERN": "c",
        "FILE_LOCAL_PATTERN": "d",
    }
    files = loaded({"feature": {"fs": {"read_write": "x", "not_found": "y"}}}, **variables).policy.files
    assert (files.mode, files.read_write, files.read_only, files.local) == (FsMode.WRITE, ("a", "b"), ("c",), ("d",))
    assert files.not_found == ("y",)


def test_the_pods_volumes_go_into_the_policy(loaded: Loader) -> None:
    pod = Pod((), b"pod", (), b"/", (), (b"/data",))
    config = loaded()
    assert config.policy_in(pod).files == replace(config.policy.files, volumes=(b"/data",))
    without = loaded({"feature": {"magic": {"auto_mount": False}}})
    assert without.policy_in(pod) == without.policy


def test_the_pods_own_program(loaded: Loader) -> None:
    config = loaded(None, {"from_pod": True, "fs_mode": "write"})
    assert (config.from_pod, config.env.from_pod, config.file_system.fuse) == (True, True, "on")
    assert config.policy.files.from_pod
    for mode in ("local", "localwithoverrides"):
        with pytest.raises(UsageError, match=f"--from-pod .* not {mode}$") as refused:
            loaded(None, {"from_pod": True, "fs_mode": mode})
        assert refused.value.exit_status == EXIT_USAGE


def test_programs_that_are_skipped(loaded: Loader) -> None:
    tree = {"skip_build_tools": False, "skip_processes": "c"}
    assert loaded(tree).skipped == {b"c": "skip_processes"}
    assert set(loaded(tree, SKIP_PROCESSES="a;b").skipped) == {b"a", b"b"}
    assert set(loaded(tree, {"skip_processes": "d; e;"}, SKIP_PROCESSES="a;b").skipped) == {b"d", b"e"}
    assert b"git" in loaded(tree, SKIP_BUILD_TOOLS="true").skipped


def test_a_flag_and_a_variable_decide_about_incoming_traffic(loaded: Loader) -> None:
    assert loaded(AGENT_TCP_STEAL_TRAFFIC="true").policy.incoming.mode is IncomingMode.STEAL
    stolen = loaded({"feature": {"network": {"incoming": "off"}}}, {"steal": True})
    assert (stolen.policy.incoming.mode, stolen.warnings) == (IncomingMode.STEAL, ())


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"feature": {"fs": {"readonly_file_buffer": 2_000_000}}}, "feature.fs.readonly_file_buffer is above 1 MiB"),
        ({"agent": {"image": "ghcr.io/metalbear-co/mirrord:latest"}}, "is mirrord's agent: python:3-slim is used"),
        ({"agent": {"labels": {"a": "b"}}}, "agent.labels is not supported yet"),
    ],
)
def test_warnings(loaded: Loader, tree: dict[str, Any], said: str) -> None:
    (warning,) = loaded(tree).warnings
    assert said in warning
    assert "\n" not in warning


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"feature": {"fs": {"local": "("}}}, r"feature\.fs\.local: the pattern '\(' does not work: "),
        ({"feature": {"fs": {"mapping": {"(": "x"}}}}, r"feature\.fs\.mapping: the pattern '\(' does not work: "),
        ({"feature": {"env": {"mapping": {"(": "x"}}}}, r"feature\.env\.mapping: the pattern '\(' does not work: "),
        ({"feature": {"env": {"override": {"A=B": "x"}}}}, r"feature\.env\.override: 'A=B' cannot be"),
        ({"feature": {"env": {"override": {"A": 1}}}}, r"m\.json: feature\.env\.override.*Expected `str`, got `int`"),
        ({"feature": {"env": {"include": "a", "exclude": "b"}}}, r"m\.json: feature\.env\.include and .* cannot both"),
        ({"feature": {"env": {"env_file": "none"}}}, "cannot read the env file .*/none: No such file"),
        ({"feature": {"network": {"incoming": {"ports": [], "ignore_ports": []}}}}, "cannot both be set"),
        ({"feature": {"network": {"incoming": {"port_mapping": [[1]]}}}}, r"port_mapping\[0\]: Expected `array` of"),
        ({"agent": {"image_pull_secrets": [{"secret": "x"}]}}, "agent.image_pull_secrets: each entry is"),
        ({"agent": {"startup_timeout": 0}}, "agent.startup_timeout: expected seconds above 0"),
        ({"feature": {"fs": {"attribute_seconds": -1}}}, "feature.fs.attribute_seconds: expected seconds"),
        ({"feature": {"fs": {"fuse": "maybe"}}}, r"m\.json: feature\.fs\.fuse: "),
        ({"feature": {"magic": {"aws": "x"}}}, r"m\.json: feature\.magic\.aws: Expected `bool"),
        ({"feature": {"magic": {"auto_mounts": True}}}, r"did you mean feature\.magic\.auto_mount\?"),
        ({"feature": {"fs": {"mod": "read"}}}, r"m\.json: unknown key feature\.fs\.mod; did you mean feature\.fs\.mode"),
    ],
)
def test_what_is_refused(loaded: Loader, tree: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        loaded(tree)
    assert refused.value.exit_status == EXIT_USAGE
    assert "\n" not in refused.value.text


def test_a_target_that_is_not_supported_matters_only_when_used(loaded: Loader) -> None:
    config = loaded({"target": "deployment/web"})
    with pytest.raises(UsageError, match="deployment is not supported yet"):
        config.parsed_target()


def test_the_env_file(loaded: Loader, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nB=$HOME\n")
    assert loaded(None, {"env_file": ".env"}).env.env_file == (("A", "1"), ("B", "/home/ann"))
    (tmp_path / "bad.env").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="it is not UTF-8 text"):
        loaded(None, {"env_file": "bad.env"})


def test_the_key_of_the_file_is_the_key_in_its_templates(loaded: Loader) -> None:
    tree = {"key": "k1", "kube_context": "c-{{ key }}"}
    assert (loaded(tree).key, loaded(tree).kube.context) == ("k1", "c-k1")
    assert loaded(tree, {"key": "k2"}).kube.context == "c-k2"
    config = loaded({"kube_context": "{{ key }}"})
    assert config.kube.context == config.key


def nested(key: str, value: object) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["demo", "pod/x", "steal", "mirror", "read", "*", "(", "tcp://1.1.1.1:80", ":53"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(["a"]), inner, max_size=3),
    max_leaves=6,
)
trees = st.tuples(st.sampled_from(all_keys()), values).map(lambda pair: nested(*pair))


@settings(deadline=None)  # it writes files
@given(trees | values)
def test_any_json_is_a_configuration_or_refused(tmp_path_factory: pytest.TempPathFactory, tree: object) -> None:
    directory = tmp_path_factory.getbasetemp() / "any-json"
    directory.mkdir(exist_ok=True)
    try:
        lines = Loader(directory)(tree).warnings
    except UsageError as refused:
        lines = (refused.text,)
    assert all("\n" not in line for line in lines)

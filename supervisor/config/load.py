"""The frozen configuration of one run: command line over MIRRORD_* variables over file over defaults."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ...agent.wire.messages import Pod
from ...syscalls.name_rules import WITHOUT_FILTER, DnsConfig
from ...syscalls.path_rules import FileConfig, FsMode, PathRules, PatternError, compile_pattern
from ...syscalls.policy import PolicyConfig
from ..environment import EnvConfig
from ..errors import EXIT_USAGE, UsageError
from ..targets.kubernetes.settings import DEFAULT_IMAGE, AgentSettings, KubeSettings
from . import schema
from .dns import read_dns
from .engine import Engine
from .env_file import parse_env_file
from .file import read_file
from .file_system import FileSystemConfig, read_file_system
from .incoming import read_incoming
from .outgoing import read_outgoing
from .overlays import Flags, check_exclusive, flag_tree, layered, variable_tree
from .schema import Listed, Tree, default, listed, validate
from .skipping import read_skipping
from .support import unsupported
from .target import FORMS, TargetSpec, parse_target
from .unix import read_unix_streams


@dataclass(frozen=True)
class Config:
    """Everything a run is told. `warnings`: lines for the user about what was asked for but will not happen.

    `auto_mount`: what is on the pod's volumes is read from the pod. They are not known before the pod is.
    `skipped`: the names of programs that are not supervised, and the key that says so.
    """

    target: str | None
    kube: KubeSettings
    agent: AgentSettings
    env: EnvConfig
    policy: PolicyConfig
    key: str
    trace: bool = False
    stats: bool = False
    warnings: tuple[str, ...] = ()
    dns: DnsConfig = WITHOUT_FILTER
    file_system: FileSystemConfig = field(default_factory=FileSystemConfig)
    auto_mount: bool = True
    skipped: Mapping[bytes, str] = field(default_factory=dict)
    engine: Engine = Engine.AUTO

    @property
    def from_pod(self) -> bool:
        """Whether the program is the pod's own."""
        return self.policy.files.from_pod

    def policy_in(self, pod: Pod) -> PolicyConfig:
        """`policy`, with what only the pod could tell: its volumes."""
        if not self.auto_mount:
            return self.policy
        return replace(self.policy, files=replace(self.policy.files, volumes=pod.volumes))

    def parsed_target(self) -> TargetSpec:
        """What `target` names; UsageError if it is missing, not understood or not supported yet."""
        if self.target is None:
            raise UsageError(f"no target: give -t TARGET, where TARGET is {FORMS}", EXIT_USAGE)
        return parse_target(self.target)


@dataclass(frozen=True)
class Machine:
    """What the configuration needs to know of this machine. `executables`: absolute paths of CMD and of what it debugs."""

    environ: Mapping[str, str]
    working_directory: bytes
    executables: tuple[bytes, ...] = ()


def load(flags: Flags, machine: Machine) -> Config:
    """The configuration; UsageError in one line naming the flag, variable or file and key that is wrong."""
    environ = machine.environ
    over = layered(_checked("the environment", variable_tree(environ)), _checked("the command line", flag_tree(flags)))
    key = _key(over)
    path = flags.config_file or environ.get("MIRRORD_CONFIG_FILE", "")
    tree = over
    if path:
        directory = os.fsdecode(machine.working_directory)
        file = read_file(path, directory, environ, key)
        if "key" in file and "key" not in over:
            # The file's own key is also what its templates mean by it.
            key = _key(file)
            file = read_file(path, directory, environ, key)
        validate(path, file)
        tree = layered(_checked(path, file), over)
    return _build(validate("the configuration", tree, strict=False), tree, flags, machine, key)


def _checked(source: str, tree: Tree) -> Tree:
    check_exclusive(source, tree)
    return tree


def _key(tree: Tree) -> str:
    given = tree.get("key")
    return given if isinstance(given, str) and given else secrets.token_hex(4)


def _build(root: schema.Root, tree: Tree, flags: Flags, machine: Machine, key: str) -> Config:
    warnings: list[str] = []

    def resolve(path: str) -> str:
        return os.path.join(os.fsdecode(machine.working_directory), _expand_home(path, machine.environ))

    policy = PolicyConfig(
        files=_files(root.feature, flags, machine),
        outgoing=read_outgoing(root.feature.network.outgoing),
        unix_streams=read_unix_streams(root.feature.network.outgoing),
        incoming=read_incoming(root.feature.network.incoming, root.agent, warnings, resolve),
        dns=default(root.feature.network.dns.enabled, True),
        interfaces=default(root.feature.network.interfaces, True),
        hostname=default(root.feature.hostname, True),
        ipv6=default(root.feature.network.ipv6, True),
    )
    return Config(
        target=root.target.path,
        kube=KubeSettings(
            namespace=root.target.namespace,
            context=root.kube_context,
            kubeconfig=None if root.kubeconfig is None else _expand_home(root.kubeconfig, machine.environ),
            accept_invalid_certificates=default(root.accept_invalid_certificates, False),
        ),
        agent=_agent(root.agent, warnings),
        env=_env(root.feature, flags, machine),
        policy=policy,
        dns=read_dns(root.feature.network.dns, policy.outgoing, warnings),
        file_system=read_file_system(root.feature.fs, flags.from_pod, warnings),
        auto_mount=default(root.feature.magic.auto_mount, True),
        skipped=read_skipping(root),
        key=key,
        trace=flags.trace,
        stats=flags.stats,
        engine=Engine(root.engine or "auto"),
        warnings=tuple(unsupported(tree) + warnings),
    )


def _expand_home(path: str, environ: Mapping[str, str]) -> str:
    home = environ.get("HOME", "")
    return home + path[1:] if home and (path == "~" or path.startswith("~/")) else path


def _files(feature: schema.Feature, flags: Flags, machine: Machine) -> FileConfig:
    fs = feature.fs
    mode = FsMode(fs.mode or "read")
    if flags.from_pod and mode not in (FsMode.READ, FsMode.WRITE):
        text = f"--from-pod takes its files from the pod: it needs feature.fs.mode read or write, not {mode.value}"
        raise UsageError(text, EXIT_USAGE)
    config = FileConfig(
        mode=mode,
        read_write=listed(fs.read_write),
        read_only=listed(fs.read_only),
        local=listed(fs.local),
        not_found=listed(fs.not_found),
        mapping=tuple((fs.mapping or {}).items()),
        home=os.fsencode(machine.environ.get("HOME", "")),
        working_directory=machine.working_directory,
        temporary_directory=os.fsencode(machine.environ.get("TMPDIR") or "/tmp"),
        executables=machine.executables,
        hides_aws=default(feature.magic.aws, True),
        from_pod=flags.from_pod,
    )
    try:
        PathRules(config)
    except PatternError as error:
        raise UsageError(str(error), EXIT_USAGE) from None
    return config


def _env(feature: schema.Feature, flags: Flags, machine: Machine) -> EnvConfig:
    env = feature.env
    try:
        mapping = tuple(
            (compile_pattern("feature.env.mapping", pattern, ignore_case=False), value)
            for pattern, value in (env.mapping or {}).items()
        )
    except PatternError as error:
        raise UsageError(str(error), EXIT_USAGE) from None
    for name, value in (env.override or {}).items():
        if not name or "=" in name or "\0" in name + value:
            raise UsageError(f"feature.env.override: {name!r} cannot be an environment variable", EXIT_USAGE)
    return EnvConfig(
        include=None if env.include is None else _names(env.include),
        exclude=_names(env.exclude),
        env_file=() if env.env_file is None else _read_env_file(env.env_file, machine),
        mapping=mapping,
        override=tuple((env.override or {}).items()),
        unset=_names(env.unset),
        hides_aws=default(feature.magic.aws, True),
        from_pod=flags.from_pod,
    )


# Lists of variable names may also be written as one text with ";" between.
def _names(value: Listed | None) -> tuple[str, ...]:
    return tuple(name.strip() for text in listed(value) for name in text.split(";") if name.strip())


def _read_env_file(path: str, machine: Machine) -> tuple[tuple[str, str], ...]:
    path = os.path.join(os.fsdecode(machine.working_directory), _expand_home(path, machine.environ))
    try:
        with open(path, encoding="utf-8-sig") as stream:
            text = stream.read()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not UTF-8 text"
        raise UsageError(f"cannot read the env file {path}: {reason}", EXIT_USAGE) from None
    return parse_env_file(path, text, machine.environ)


def _agent(agent: schema.Agent, warnings: list[str]) -> AgentSettings:
    image = agent.image or DEFAULT_IMAGE
    if image.rpartition("/")[2].partition(":")[0].startswith("mirrord"):
        # A mirrord.json often names mirrord's own agent; that image has no Python.
        warnings.append(f"agent.image {image} is mirrord's agent: {DEFAULT_IMAGE} is used instead")
        image = DEFAULT_IMAGE
    secrets_named = [secret.get("name", "") for secret in agent.image_pull_secrets or ()]
    if not all(secrets_named):
        raise UsageError('agent.image_pull_secrets: each entry is {"name": SECRET}', EXIT_USAGE)
    if agent.startup_timeout is not None and not 0 < agent.startup_timeout < float("inf"):
        raise UsageError("agent.startup_timeout: expected seconds above 0", EXIT_USAGE)
    return AgentSettings(
        image=image,
        image_pull_policy=agent.image_pull_policy or "IfNotPresent",
        image_pull_secrets=tuple(secrets_named),
        namespace=agent.namespace,
        ephemeral=agent.ephemeral,
        startup_timeout_s=60.0 if agent.startup_timeout is None else float(agent.startup_timeout),
    )

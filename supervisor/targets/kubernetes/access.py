"""From a kubeconfig to what a connection needs: host, TLS context, proxy, credentials, namespace.

The `kubernetes` package reads the kubeconfig and runs its auth plugins; nothing else of it is used (its streams stall
under load, its models differ from release to release, and its import takes a quarter of a second, hence the late
imports here). Three of its habits need care:
- a failing exec plugin is only logged, and the client goes on without credentials: its log is caught and turned into
  the failure that it is;
- certificates and keys embedded in the kubeconfig are written to temporary files that a killed process leaves behind:
  they are written to a folder of our own that is gone as soon as the TLS context has read them;
- a context that is not there is reported by an internal path: the names are checked beforehand.
"""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...channel.dial import Host
from ...errors import UsageError
from .settings import KubeSettings

if TYPE_CHECKING:
    from kubernetes.client import Configuration

USER_AGENT = "mirrord-trace"
_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True)
class _Loaded:
    # What one reading of the credentials gave.
    configuration: Configuration
    context: ssl.SSLContext | None
    certificate: bytes


class ClusterAccess:
    """How to reach one cluster as one user; an `Endpoint` for port-forwards. Survives fork(2): holds no socket."""

    def __init__(self, settings: KubeSettings) -> None:
        self._settings = settings
        self._paths = _kubeconfig_paths(settings)
        self._proxy_url = ""
        self.context_name, self.namespace = self._choose_context()
        if settings.namespace:
            self.namespace = settings.namespace
        self._loaded = self._load()
        configuration = self._loaded.configuration
        try:
            self.host = Host.parse(str(configuration.host))
        except ValueError as error:
            raise UsageError(f"the kubeconfig's server is wrong: {error}; correct clusters[].cluster.server") from error
        self.server_name: str | None = configuration.tls_server_name or None
        self.proxy = _proxy(self._proxy_url, configuration, self.host)

    @property
    def in_cluster(self) -> bool:
        """True if there is no kubeconfig and a pod's service account is used."""
        return not self._paths

    def context(self) -> ssl.SSLContext | None:
        """The TLS context, None for a plain http:// server."""
        return self._loaded.context

    def headers(self) -> dict[str, str]:
        """Request headers with credentials; a token near its end is renewed by its plugin first."""
        headers = {"User-Agent": USER_AGENT}
        with _caught_log() as log:
            settings = self._loaded.configuration.auth_settings()
        for setting in _untyped(settings).values():
            if setting["in"] == "header" and setting["value"]:
                headers[str(setting["key"])] = str(setting["value"])
        if log.lines and len(headers) == 1:
            raise UsageError(f"the kubeconfig's auth plugin failed: {log.text}; run it by hand to see why")
        return headers

    def renew(self) -> bool:
        """Read the kubeconfig and run its plugins again, after a 401; True if the credentials are other ones now."""
        before = (self.headers(), self._loaded.certificate)
        self._loaded = self._load()
        return (self.headers(), self._loaded.certificate) != before

    @property
    def client_certificate(self) -> bytes:
        """The client certificate (PEM), empty if the user has none."""
        return self._loaded.certificate

    def _choose_context(self) -> tuple[str, str]:
        # The context's name and its namespace.
        if not self._paths:
            return "in-cluster", _read(os.path.join(_SERVICE_ACCOUNT, "namespace")).decode() or "default"
        where = os.pathsep.join(self._paths)
        config = _merged(where)
        contexts = {entry["name"]: entry.get("context") or {} for entry in _entries(config, "contexts")}
        name = self._settings.context or str(config.get("current-context") or "")
        known = ", ".join(sorted(contexts)) or "none"
        if not name:
            raise UsageError(f"{where} names no current context; choose one with --context (it has: {known})")
        if name not in contexts:
            raise UsageError(f"there is no context {name!r} in {where}; it has: {known}")
        self._check_entry(config, "clusters", contexts[name].get("cluster"), name, where)
        if contexts[name].get("user"):
            self._check_entry(config, "users", contexts[name].get("user"), name, where)
        cluster = next(entry for entry in _entries(config, "clusters") if entry["name"] == contexts[name]["cluster"])
        self._proxy_url = str((cluster.get("cluster") or {}).get("proxy-url") or "")  # Unknown to kubernetes 36.
        return name, str(contexts[name].get("namespace") or "default")

    @staticmethod
    def _check_entry(config: dict[str, Any], kind: str, wanted: object, context: str, where: str) -> None:
        if wanted not in [entry["name"] for entry in _entries(config, kind)]:
            raise UsageError(f"context {context!r} in {where} refers to {kind[:-1]} {wanted!r}, which is not there")

    def _load(self) -> _Loaded:
        from kubernetes.client import Configuration

        configuration = Configuration()
        with tempfile.TemporaryDirectory(prefix="mirrord-trace-") as folder, _caught_log() as log:
            self._fill(configuration, folder)
            if log.lines and not configuration.api_key and not configuration.cert_file:
                raise UsageError(f"the kubeconfig's auth plugin failed: {log.text}; run it by hand to see why")
            return _Loaded(
                configuration,
                _tls_context(configuration, self._settings),
                _read(configuration.cert_file) if configuration.cert_file else b"",
            )

    def _fill(self, configuration: Configuration, folder: str) -> None:
        from kubernetes import config

        try:
            if self._paths:
                _untyped(config.load_kube_config)(
                    config_file=os.pathsep.join(self._paths),
                    context=self.context_name,
                    client_configuration=configuration,
                    persist_config=False,
                    temp_file_path=folder,
                )
            else:
                _untyped(config.load_incluster_config)(client_configuration=configuration)
        except (config.ConfigException, OSError, ValueError) as error:
            text = str(error).replace("\n", " ")
            raise UsageError(f"the kubeconfig cannot be used: {text}") from error


@contextlib.contextmanager
def _caught_log() -> Iterator[_Log]:
    log = _Log()
    logging.getLogger().addHandler(log)
    try:
        yield log
    finally:
        logging.getLogger().removeHandler(log)


class _Log(logging.Handler):
    # Collects what the package logs at the root logger instead of raising it.

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.lines).split())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _kubeconfig_paths(settings: KubeSettings) -> list[str]:
    # The files that exist; none means a pod's service account.
    wanted = settings.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    paths = [os.path.expanduser(path) for path in wanted.split(os.pathsep) if path]
    found = [path for path in paths if os.path.exists(path)]
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and os.path.exists(_SERVICE_ACCOUNT)
    if not found and (settings.kubeconfig or not in_pod):
        raise UsageError(f"there is no kubeconfig at {os.pathsep.join(paths)}; name one with --kubeconfig or KUBECONFIG")
    return found


def _merged(paths: str) -> dict[str, Any]:
    import yaml
    from kubernetes.config import ConfigException
    from kubernetes.config.kube_config import KubeConfigMerger

    try:
        merged = _untyped(KubeConfigMerger)(paths).config.value
    except (OSError, yaml.YAMLError, ConfigException, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())
        raise UsageError(f"the kubeconfig {paths} cannot be read: {text}") from error
    except (AttributeError, TypeError, KeyError) as error:
        raise UsageError(f"{paths} is not a kubeconfig; name one with --kubeconfig or KUBECONFIG") from error
    if not isinstance(merged, dict):
        raise UsageError(f"{paths} is not a kubeconfig; name one with --kubeconfig or KUBECONFIG")
    return merged


def _entries(config: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    # The merger wraps each entry of a list in a node that remembers its file.
    entries = [getattr(entry, "value", entry) for entry in config.get(kind) or []]
    return [entry for entry in entries if isinstance(entry, dict) and "name" in entry]


def _tls_context(configuration: Configuration, settings: KubeSettings) -> ssl.SSLContext | None:
    if not str(configuration.host).startswith("https"):
        return None
    try:
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert or None)
        if not configuration.verify_ssl or settings.accept_invalid_certificates:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, configuration.key_file or None)
    except (ssl.SSLError, OSError) as error:
        raise UsageError(f"the certificates in the kubeconfig cannot be used: {error}") from error
    return context


def _proxy(proxy_url: str, configuration: Configuration, host: Host) -> str | None:
    proxy = proxy_url or str(configuration.proxy or "")
    if not proxy:
        return None
    rules = {"no": str(configuration.no_proxy or "")}
    bypass = urllib.request.proxy_bypass_environment(f"{host.name}:{host.port}", rules)  # type: ignore[attr-defined]
    return None if bypass else proxy


def _untyped(value: Any) -> Any:
    # The package's annotations are partial, and not the same in every release.
    return value


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""

"""An HTTP filter inside of TLS: nginx is the pod's server and the local program, curl the client. Names and protocols stay."""

from __future__ import annotations

import datetime
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import neighbours
import pytest
from mirrord_trace.supervisor.targets.demo import network
from runs import Runner, until

_NAME = "shop.test"
_PORT = 18443

_NGINX = """
daemon off; worker_processes 1; error_log stderr; pid {folder}/{who}.pid;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen {port} {tls};
    ssl_certificate {folder}/tls.crt; ssl_certificate_key {folder}/tls.key;
    location / {{ return 200 "{who} $server_protocol $ssl_server_name $remote_addr $http_x_user\\n"; }}
  }}
}}
"""


def _make_certificate(folder: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "tls.crt").write_bytes(made.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "tls.key").write_bytes(private)


def _nginx(folder: Path, who: str, tls: str) -> list[str | Path]:
    config = folder / f"{who}.conf"
    config.write_text(_NGINX.format(folder=folder, who=who, port=_PORT, tls=tls))
    return [neighbours.program("nginx", "nginx-light"), "-p", folder, "-c", config, "-e", "stderr"]


@pytest.fixture
def secret(runner: Runner) -> Iterator[str]:
    """A folder of the pod with tls.crt and tls.key; the same files lie in `runner.folder`."""
    for place in (runner.folder, *runner.folder.parents[:2]):
        place.chmod(place.stat().st_mode | 0o055)
    _make_certificate(runner.folder)
    root = Path("/proc", str(runner.pod.pid), "root")
    outside = Path(tempfile.mkdtemp(prefix="secret-", dir=root / "tmp"))
    for name in ("tls.crt", "tls.key"):
        shutil.copy(runner.folder / name, outside)
    yield str(Path("/") / outside.relative_to(root))
    shutil.rmtree(outside)


def _curl(runner: Runner, protocol: str, *headers: str) -> list[str | Path]:
    curl: list[str | Path] = ["curl", "-sS", "--max-time", "20", protocol, "--cacert", runner.folder / "tls.crt"]
    curl += ["--resolve", f"{_NAME}:{_PORT}:{network.POD[0]}", f"https://{_NAME}:{_PORT}/"]
    return [*curl, *(word for header in headers for word in ("-H", header))]


def _ask(runner: Runner, protocol: str, *headers: str) -> str:
    return neighbours.run(runner.pod, *_curl(runner, protocol, *headers))


def _options(runner: Runner, secret: str, protocol: str) -> list[str | Path]:
    delivery = {"protocol": protocol, "pod_certificate": f"{secret}/tls.crt", "pod_key": f"{secret}/tls.key"}
    incoming = {"mode": "steal", "http_filter": {"header_filter": "^x-user: ann$"}, "tls_delivery": delivery}
    file = runner.folder / "tls.json"
    file.write_text(json.dumps({"feature": {"network": {"incoming": incoming}}}))
    return ["-f", file]


@pytest.mark.parametrize(
    ("delivery", "local_listen", "client", "version"),
    [
        ("tls", "ssl http2", "--http1.1", "HTTP/1.1"),
        ("tls", "ssl http2", "--http2", "HTTP/2.0"),
        ("tcp", "", "--http1.1", "HTTP/1.1"),
        ("tcp", "http2", "--http2", "HTTP/2.0"),
    ],
)
def test_requests_inside_of_tls_go_where_the_filter_says(
    runner: Runner, secret: str, delivery: str, local_listen: str, client: str, version: str
) -> None:
    peer = network.POD[0]
    with neighbours.server(runner.pod, _PORT, *_nginx(runner.folder, "pod", "ssl http2"), log=runner.folder / "nginx.log"):
        assert _ask(runner, client) == f"pod {version} {_NAME} {peer} \n"
        local = _nginx(runner.folder, "local", local_listen)
        with neighbours.stealing(runner, _PORT, *local, options=_options(runner, secret, delivery)):
            name = _NAME if delivery == "tls" else ""
            wanted = f"local {version} {name} {peer} ann\n"
            # The port is taken over while we ask, which resets connections of before.
            asked = _curl(runner, client, "X-User: ann")
            until(lambda: neighbours.ended(runner.pod, *asked).stdout == wanted, "what the filter wants comes here")
            # What is not wanted reaches the pod's server by a connection of the agent's.
            assert _ask(runner, client, "X-User: bob").startswith(f"pod {version} {_NAME} ")
            assert _ask(runner, client, "X-User: ann") == wanted
        assert _ask(runner, client, "X-User: ann") == f"pod {version} {_NAME} {peer} ann\n"

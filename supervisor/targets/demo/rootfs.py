"""The demo pod's own root file system: what is in it, and how it becomes the root of a process.

The content is fixed, so that tests can compare, and such that no answer can be mistaken for the developer's machine. The
shapes are those that real images have: /var/run as an absolute symbolic link, mounted secrets as links to links
(`..data`), names that are no UTF-8, links that try to leave the root.
"""

from __future__ import annotations

import hashlib
import os
import tempfile

from . import kernel, network

HOSTNAME = "demo-pod-0"
NAMESPACE = "demo"
BIG_BYTES = 8 * 1024 * 1024
MANY = 2000

_SECRETS = "/run/secrets/kubernetes.io/serviceaccount"
_CERTIFICATE = b"""\
-----BEGIN CERTIFICATE-----
MIIBljCCAT2gAwIBAgIUZyUlJjXOqt8naAzs9AvXUHV9THMwCgYIKoZIzj0EAwIw
IDEeMBwGA1UEAwwVbWlycm9yZC10cmFjZSBkZW1vIENBMCAXDTI2MTEyMjIwMzUx
N1oYDzIxMjYxMDI5MjAzNTE3WjAgMR4wHAYDVQQDDBVtaXJyb3JkLXRyYWNlIGRl
bW8gQ0EwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATP2ZVJfacwZ1OepvdH+H7l
uLmuUsgByNqm8W8WWoCDECf4nVD3ITokUlAkNR1WwA+vAMHtV62pitKL1UMZ7BNH
o1MwUTAdBgNVHQ4EFgQUQ9XnzvUOvpoOffH8zz+lNujMznowHwYDVR0jBBgwFoAU
Q9XnzvUOvpoOffH8zz+lNujMznowDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQD
AgNHADBEAiAIqm5nZHXuIKdN0l9u8TEeUsxeAH8OhcUklPSeFuwPQAIgRhiKvSXk
y4doe/mdAQZRz37DczmaKcictvEGWIq7Mrk=
-----END CERTIFICATE-----
"""

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "HOSTNAME": HOSTNAME,
    "KUBERNETES_SERVICE_HOST": network.API[0],
    "KUBERNETES_SERVICE_PORT": "443",
    "GREETER_SERVICE_HOST": network.GREETER[0],
    "GREETER_SERVICE_PORT": str(network.HTTP_PORT),
    "DEMO_GREETING": "hello from the pod",
    "DEMO_GREETER_URL": f"http://greeter.{NAMESPACE}.svc.cluster.local/",
    "DEMO_EMPTY": "",
    "DEMO_LINES": "one\ntwo=2",
}

LINKS = {
    "/var/run": "/run",
    f"{_SECRETS}/..data": "..2026_01_01_00_00_00",
    f"{_SECRETS}/token": "..data/token",
    f"{_SECRETS}/namespace": "..data/namespace",
    f"{_SECRETS}/ca.crt": "..data/ca.crt",
    "/etc/ssl/cert.pem": "/etc/ssl/certs/ca-certificates.crt",
    "/app/relative": "config.json",
    "/app/absolute": "/app/config.json",
    "/app/escape": "../../../../../../etc/hostname",
    "/app/directory": "many",
    "/app/dangling": "/nowhere/at/all",
    "/app/loop": "loop",
}

_DIRECTORIES = ("/proc", "/dev", "/tmp", "/root", "/app/many", "/app/names", "/app/empty-directory")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def big_content() -> bytes:
    """/app/big.bin: BIG_BYTES of fixed noise."""
    return hashlib.shake_128(b"mirrord-trace demo").digest(BIG_BYTES)


def files() -> dict[str, bytes]:
    """Path -> content of every regular file of the pod."""
    secrets = f"{_SECRETS}/..2026_01_01_00_00_00"
    content = {
        "/etc/hostname": f"{HOSTNAME}\n".encode(),
        "/etc/hosts": _hosts(),
        "/etc/resolv.conf": _resolv_conf(),
        "/etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files dns\n",
        "/etc/os-release": b'ID=demo\nNAME="demo pod"\nPRETTY_NAME="demo pod of mirrord-trace"\n',
        "/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
        "/etc/group": b"root:x:0:\n",
        "/etc/ssl/certs/ca-certificates.crt": _CERTIFICATE,
        f"{secrets}/token": b"demo-token-of-the-pod",
        f"{secrets}/namespace": NAMESPACE.encode(),
        f"{secrets}/ca.crt": _CERTIFICATE,
        "/app/config.json": b'{"pod": "demo-pod-0", "greeting": "I am a file of the pod", "numbers": [1, 2, 3]}\n',
        "/app/lines.txt": b"".join(b"line %d\n" % number for number in range(1000)),
        "/app/empty": b"",
        "/app/private": b"only root reads this\n",
        "/app/run": b"#!/bin/sh\necho run in the pod\n",
        "/app/big.bin": big_content(),
        "/app/names/with space": b"space\n",
        "/app/names/gr\u00fc\u00df dich": b"utf-8\n",
        os.fsdecode(b"/app/names/\xff\xfe"): b"bytes\n",
        "/app/names/" + "n" * 255: b"long\n",
    }
    content.update({f"/app/many/file-{number:04}": b"%d\n" % number for number in range(MANY)})
    return content


def populate(root: str) -> None:
    """Write the whole tree below the existing directory `root`."""
    for directory in _DIRECTORIES:
        os.makedirs(root + directory, exist_ok=True)
    os.chmod(root + "/tmp", 0o1777)
    made = set()
    for path, content in files().items():
        directory = os.path.dirname(path)
        if directory not in made:
            os.makedirs(root + directory, exist_ok=True)
            made.add(directory)
        fd = os.open(root + path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        os.write(fd, content)
        os.close(fd)
    for path, target in LINKS.items():
        os.makedirs(root + os.path.dirname(path), exist_ok=True)
        os.symlink(target, root + path)
    os.chmod(root + "/app/private", 0o600)
    os.chmod(root + "/app/run", 0o755)
    os.mkfifo(root + "/app/fifo", 0o644)


def become_root() -> None:
    """Make a tmpfs with the tree the root of this process; its mount, UTS and pid namespaces are its own already."""
    # A directory that every machine has; in our own mount namespace nobody else sees what it is covered with.
    root = os.path.realpath(tempfile.gettempdir())
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", root, "tmpfs", kernel.MS_NOSUID, "mode=0755")
    populate(root)
    _mount_devices(root)
    _mount_proc(root)
    kernel.sethostname(HOSTNAME.encode())
    os.chdir(root)
    # Both names the same directory: the old root lies on top of the new one and is taken off again.
    kernel.pivot_root(".", ".")
    kernel.umount(".", kernel.MNT_DETACH)
    os.chdir("/")


# A user namespace may not make device nodes, but it may bind the machine's harmless ones. Missing ones stay missing.
def _mount_devices(root: str) -> None:
    for name in _DEVICES:
        if os.path.exists(f"/dev/{name}"):
            os.close(os.open(f"{root}/dev/{name}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
            kernel.mount(f"/dev/{name}", f"{root}/dev/{name}", flags=kernel.MS_BIND)


# In a container that masks parts of /proc the kernel allows no new one; then the machine's own is shown.
def _mount_proc(root: str) -> None:
    try:
        kernel.mount("proc", f"{root}/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    except OSError:
        kernel.mount("/proc", f"{root}/proc", flags=kernel.MS_BIND | kernel.MS_REC)


def _hosts() -> bytes:
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{address}\t{HOSTNAME}" for address in network.POD]
    lines += [f"{network.ECHO[0]}\techo-from-hosts"]
    return "\n".join(lines).encode() + b"\n"


def _resolv_conf() -> bytes:
    search = f"{NAMESPACE}.svc.cluster.local svc.cluster.local cluster.local"
    return f"nameserver {network.DNS[0]}\nsearch {search}\noptions ndots:5\n".encode()

"""The images that the tests' pods run, laid out from static Go programs, busybox and Debian's Python."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from .layout import IMAGES_SOURCE, Layout
from .oci import Image, write_image
from .programs import Say, Unfinished, go_build, package_closure, program, run, unpack_packages

PAUSE = "docker.io/local/pause:1"
TARGET = "docker.io/local/target:1"
BUSYBOX = "docker.io/local/busybox:1"
DNS = "docker.io/local/dns:1"
PYTHON = "docker.io/local/python:3-slim"

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
_GROUP = "root:x:0:\napp:x:1000:\nnogroup:x:65534:\n"
# Dependencies of Debian's packages that only their installation needs.
_INSTALLATION_ONLY = ("dpkg", "perl", "libperl", "tar", "install-info", "libgdbm-compat", "mailcap", "mime-support")
_BULK = ("doc", "info", "lintian", "locale", "man")


def build_images(layout: Layout, say: Say) -> None:
    """Writes one archive for each image into the cache, unless they are there."""
    if layout.images.exists():
        return
    say("building the container images")
    layout.cache.mkdir(parents=True, exist_ok=True)
    with Unfinished(layout.images) as folder, tempfile.TemporaryDirectory(dir=layout.cache) as scratch:
        work = Path(scratch)
        programs = work / "programs"
        programs.mkdir()
        go_build(IMAGES_SOURCE, ["./pause", "./target", "./dns"], programs)
        for name, image in (("pause", PAUSE), ("target", TARGET), ("dns", DNS)):
            _from_scratch(image, programs / name, work / f"{name}-root", folder / f"{name}.tar")
        _busybox(layout, work / "busybox-root", folder / "busybox.tar")
        _python(work / "python-root", folder / "python.tar")
    _remove_stale(layout)


def _from_scratch(name: str, binary: Path, root: Path, archive: Path) -> None:
    root.mkdir()
    shutil.copy2(binary, root / binary.name)
    write_image(Image(name, entrypoint=[f"/{binary.name}"]), root, archive)


def _busybox(layout: Layout, root: Path, archive: Path) -> None:
    _skeleton(root)
    shutil.copy2(program(layout, "busybox"), root / "bin/busybox")
    for applet in run([str(root / "bin/busybox"), "--list"]).stdout.split():
        link = root / "bin" / applet
        if not link.exists():
            link.symlink_to("busybox")
    (root / "www").mkdir()
    write_image(Image(BUSYBOX, entrypoint=[], command=["sh"], environment=[_PATH]), root, archive)


def _python(root: Path, archive: Path) -> None:
    """Python and its standard library and nothing else: no shell, no nft, no ip. The agent must live with that."""
    _skeleton(root)
    wanted = package_closure(["python3-minimal", "libpython3-stdlib"])
    unpack_packages([name for name in wanted if not name.startswith(_INSTALLATION_ONLY)], root)
    for folder in _BULK:
        shutil.rmtree(root / "usr/share" / folder, ignore_errors=True)
    (root / "usr/local/bin").mkdir(parents=True, exist_ok=True)
    (root / "usr/local/bin/python3").symlink_to("/usr/bin/python3")
    image = Image(PYTHON, entrypoint=[], command=["python3"], environment=[_PATH, "LANG=C.UTF-8"])
    write_image(image, root, archive)


def _skeleton(root: Path) -> None:
    for folder in ("bin", "etc", "home/app", "root", "tmp"):
        (root / folder).mkdir(parents=True)
    os.chmod(root / "tmp", 0o1777)
    (root / "etc/passwd").write_text(_PASSWD)
    (root / "etc/group").write_text(_GROUP)


def _remove_stale(layout: Layout) -> None:
    for folder in layout.cache.glob("images-*"):
        if folder != layout.images:
            shutil.rmtree(folder, ignore_errors=True)

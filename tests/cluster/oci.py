"""Writes container images as OCI archives (image-spec v1), so that no registry and no build daemon is needed.

One layer, uncompressed: the archive goes from the disk to the same disk.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from .layout import GO_ARCH

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Image:
    """An image's name and how it starts; its files come as a folder."""

    name: str
    entrypoint: list[str]
    command: list[str] = field(default_factory=list)
    environment: list[str] = field(default_factory=list)


def write_image(image: Image, root: Path, archive: Path) -> None:
    """Packs the files under `root` into an archive that `ctr images import` takes."""
    layer = _layer(root)
    blobs: dict[str, bytes] = {}
    layer_descriptor = _descriptor(_LAYER, layer, blobs)
    config = {
        "architecture": GO_ARCH,
        "os": "linux",
        "config": {"Entrypoint": image.entrypoint, "Cmd": image.command, "Env": image.environment},
        "rootfs": {"type": "layers", "diff_ids": [layer_descriptor["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _descriptor(_CONFIG, json.dumps(config).encode(), blobs),
        "layers": [layer_descriptor],
    }
    index_entry = _descriptor(_MANIFEST, json.dumps(manifest).encode(), blobs)
    index_entry["annotations"] = {"io.containerd.image.name": image.name}
    with tarfile.open(archive, "w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [index_entry]}).encode())
        for digest, content in blobs.items():
            _add(tar, f"blobs/sha256/{digest}", content)


def _layer(root: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(root.rglob("*")):
            tar.add(path, arcname=str(path.relative_to(root)), recursive=False, filter=_as_root)
    return buffer.getvalue()


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = 0
    return member


def _descriptor(media_type: str, content: bytes, blobs: dict[str, bytes]) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    blobs[digest] = content
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))

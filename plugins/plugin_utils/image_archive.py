"""What an image archive of `podman save` or `docker save` holds, so that a host can tell whether it has that image."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile


class Unusable(Exception):
    """No archive of one image."""


def describe(path: str) -> dict:
    """Image id, and size and checksum of the file."""
    if not os.path.isfile(path):
        raise Unusable(f"{path} is no file of this machine; make one with: podman save --output {os.path.basename(path) or 'app.tar'} IMAGE:TAG")
    try:
        with tarfile.open(path) as archive:
            image = _image(archive)
    except (KeyError, IndexError, TypeError, ValueError, tarfile.TarError, EOFError) as error:
        raise Unusable(f"{path} is no archive of podman save or docker save ({type(error).__name__}: {error})") from error
    with open(path, "rb") as handle:
        return {"image": image, "sha256": hashlib.file_digest(handle, "sha256").hexdigest(), "bytes": os.path.getsize(path)}


def _image(archive: tarfile.TarFile) -> str:
    """The digest of the image's configuration, which is its id."""
    if "manifest.json" in archive.getnames():  # docker-archive, and what newer versions of docker save write
        rows = _read(archive, "manifest.json")
        name = os.path.basename(_one(rows)["Config"]).removesuffix(".json")
    else:  # oci-archive
        manifest = _one(_read(archive, "index.json")["manifests"])["digest"]
        name = _read(archive, f"blobs/{manifest.replace(':', '/')}")["config"]["digest"].removeprefix("sha256:")
    if len(name) != 64 or set(name) - set("0123456789abcdef"):
        raise ValueError(f"'{name}' is no image id")
    return name


def _one(rows: list) -> dict:
    if len(rows) != 1:
        raise ValueError(f"it holds {len(rows)} images, and has to hold one")
    return rows[0]


def _read(archive: tarfile.TarFile, name: str):
    handle = archive.extractfile(name)
    if handle is None:
        raise ValueError(f"{name} is no file")
    return json.load(handle)

#!/usr/bin/python3 -I
"""Remove images of the service user that nothing needs, and the static files of releases that went with them.

Kept are: images of containers, running or not; images that an installed Quadlet unit names; the newest
of each repository, so that a release can be rolled back. A release's directory below data/static stays as long
as an image of its tag or digest, or a unit that mounts it.
"""

import argparse
import contextlib
import glob
import json
import os
import pathlib
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib/senex_prune"))

import owned  # noqa: E402  (the path above must come first)

# Podman writes its lists anew to forget an image, which a disk without a byte left does not let it: this much is kept, and given away first
BALLAST_FILE = ".local/share/containers/room"
ROOM_BYTES = 16 * 2**20


def release_ballast():
    with contextlib.suppress(FileNotFoundError):
        os.unlink(BALLAST_FILE)


def create_ballast():
    """As long as there is more than that; where there is not, the next run does."""
    try:
        with open(BALLAST_FILE, "wb") as handle:
            os.posix_fallocate(handle.fileno(), 0, ROOM_BYTES)
    except OSError:
        release_ballast()


def podman(*argv):
    return subprocess.run(["podman", *argv], check=True, capture_output=True, text=True).stdout


def named_by_units(directory):
    """Image references in the Quadlet files below a directory."""
    named = set()
    for path in glob.glob(os.path.join(directory, "**", "*.container"), recursive=True) + glob.glob(os.path.join(directory, "*.image")):
        with open(path, encoding="utf-8") as unit:
            named.update(re.findall(r"^Image\s*=\s*(\S+)", unit.read(), re.MULTILINE))
    return named


def repository(reference):
    """registry:5000/team/app:1 and registry:5000/team/app@sha256:… are both of registry:5000/team/app."""
    reference = reference.partition("@")[0]
    head, slash, tail = reference.rpartition("/")
    return head + slash + tail.partition(":")[0]


def expendable(images, used, named, keep):
    """The images that may go."""
    images = list({image["Id"]: image for image in images}.values())  # Podman lists an image once a tag
    repositories = {}
    for image in images:
        names = (image.get("Names") or []) + (image.get("RepoDigests") or [])
        for name in {repository(name) for name in names}:
            repositories.setdefault(name, []).append(image)
    kept = set(used)
    for group in repositories.values():
        kept.update(image["Id"] for image in sorted(group, key=lambda image: image["Created"], reverse=True)[:keep])
    for image in images:
        if named & {*(image.get("Names") or []), *(image.get("RepoDigests") or [])}:
            kept.add(image["Id"])
    return [image for image in images if image["Id"] not in kept]


def mounted_by_units(directory):
    """Directories of the host that the Quadlet files below a directory mount."""
    found = set()
    for path in glob.glob(os.path.join(directory, "**", "*.container"), recursive=True):
        with open(path, encoding="utf-8") as unit:
            found.update(value.rstrip("/") for value in re.findall(r"^Volume\s*=\s*([^:\s]+)", unit.read(), re.MULTILINE))
    return found


def release(reference):
    """What a release's directory is called: its tag, or the beginning of its digest."""
    name, _, digest = reference.partition("@sha256:")
    return digest[:12] or name.rpartition("/")[2].partition(":")[2]


def left_behind(directories, images, mounted):
    """Directories of releases that no image is there of."""
    releases = {release(name) for image in images for name in (image.get("Names") or []) + (image.get("RepoDigests") or [])}
    return [path for path in directories if os.path.basename(path) not in releases and path not in mounted]


def number(text):
    """Of images that are kept: without one there is nothing to roll back to."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of images that can be kept; write 1 or more (3 for two releases to roll back to)")
    return int(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", type=number, required=True, metavar="N", help="newest images kept of each repository, at least 1")
    parser.add_argument("--dry-run", action="store_true", help="say what would go")
    arguments = parser.parse_args()
    home = os.path.expanduser("~")
    os.chdir(home)
    if not arguments.dry_run:
        release_ballast()
    containers = json.loads(podman("ps", "--all", "--format", "json") or "[]") or []
    images = json.loads(podman("images", "--format", "json") or "[]") or []
    named = named_by_units(os.path.join(home, ".config/containers/systemd"))
    failed = False
    going = expendable(images, {container["ImageID"] for container in containers}, named, arguments.keep)
    for image in going:
        names = image.get("Names") or [image["Id"]]
        print("would remove" if arguments.dry_run else "removing", *names, flush=True)
        if not arguments.dry_run:
            # Without --force: an image that a container has taken since stays, which ends with 2
            failed |= subprocess.run(["podman", "rmi", *names], check=False, stdout=subprocess.DEVNULL).returncode not in (0, 2)
    if not arguments.dry_run:  # one that a container took meanwhile is still there
        images = json.loads(podman("images", "--format", "json") or "[]") or []
        going = []
    there = [image for image in images if image not in going]
    # Role django marks it; what lies in one of before stays until then
    static = os.path.join(home, "data/static")
    directories = sorted(filter(os.path.isdir, glob.glob(f"{static}/*"))) if owned.marked(static, (owned.CHILDREN,)) else []
    for directory in left_behind(directories, there, mounted_by_units(os.path.join(home, ".config/containers/systemd"))):
        print("would remove" if arguments.dry_run else "removing", directory, flush=True)
        if not arguments.dry_run:  # they are a container's user's
            failed |= subprocess.run(["podman", "unshare", *owned.words("remove", home, directory)], check=False).returncode != 0
    if not arguments.dry_run:
        create_ballast()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

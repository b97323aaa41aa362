"""Whether rootless Podman can keep images below a home: its overlay driver is tried there, by hand, before there is a Podman."""

from __future__ import annotations

import json
import os
import re
import subprocess

from ansible_collections.senex.trader.plugins.module_utils.host import untrusted

NETWORK = {"9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "gfs2", "gpfs", "lustre", "nfs", "nfs4", "ocfs2", "smb3", "smbfs", "virtiofs"}
STACKED = {"aufs", "ecryptfs", "overlay", "fuse.fuse-overlayfs"}
CONFIGURATION = "/etc/containers/storage.conf"
# Runs as the owner of the directory, makes one in it and removes it again
PROBE = r"""
import ctypes, json, os, re, shutil, subprocess, sys, tempfile
place = sys.argv[1]
while not os.path.isdir(place):
    place = os.path.dirname(place)
place, said = os.path.realpath(place), {}
mounts = [line.partition(" - ")[::2] for line in open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n")]
# Other white space in a name the kernel leaves as it is
mounts = [(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), left.split(" ")[4]), right.split(" ")[0]) for left, right in mounts]
above = [(len(mount), number, kind) for number, (mount, kind) in enumerate(mounts) if mount == "/" or (place + "/").startswith(mount + "/")]
said["place"], said["kind"] = place, max(above)[2]
try:
    top = tempfile.mkdtemp(prefix=".senex-storage-", dir=place)
except OSError as error:
    sys.exit(print(json.dumps({**said, "unwritable": error.strerror})))
try:
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(f"{top}/{name}")
    open(f"{top}/lower/file", "w").close()
    libc = ctypes.CDLL(None)
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    stream, kinds = libc.opendir(os.fsencode(f"{top}/lower")), {}
    while entry := libc.readdir(ctypes.c_void_p(stream)):
        kinds[ctypes.string_at(entry + 19)] = ctypes.string_at(entry + 18, 1)[0]  # struct dirent: d_type, and d_name behind it
    libc.closedir(ctypes.c_void_p(stream))
    said["d_type"] = kinds.get(b"file", 0) != 0
    inside = 'mount -t overlay overlay -o "userxattr,lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" "$1/merged" && touch "$1/merged/new"'
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, "sh", top]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=30, env={**os.environ, "LC_ALL": "C"})
        said["mount"] = "" if done.returncode == 0 else done.stderr.strip().partition("\n")[0] or "ended with an error"
    except OSError as error:
        said["untried"] = error.strerror
finally:
    for name in ("work/work", "work/index"):
        if os.path.isdir(f"{top}/{name}"):
            os.chmod(f"{top}/{name}", 0o700)
    shutil.rmtree(top, ignore_errors=True)
said["fuse"] = bool(shutil.which("fuse-overlayfs"))
print(json.dumps(said))
"""


def owner(path: str) -> tuple[int, int]:
    """Owner of the first directory on the way there that is not root's, and that user's group."""
    uid = untrusted.owner_above(f"{path}/.") or 0
    return uid, untrusted.group(uid) if uid else 0


def probe(home: str) -> dict:
    """What the file system below a home does, tried as whoever owns it."""
    place = f"{home}/.local/share/containers/storage"
    uid, gid = owner(place)
    account = {"user": uid, "group": gid, "extra_groups": []} if os.geteuid() == 0 and uid else {}
    argv = ["/usr/bin/python3", "-IS", "-c", PROBE, place]
    # Whatever else that owner runs may take this process over
    done = untrusted.told(argv, timeout=60, limit=untrusted.LIMIT, cwd="/", env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, **account)
    if done.returncode:
        raise OSError((done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1])
    return answered(done.stdout)


def answered(text: str) -> dict:
    """What the probe says, as far as it can be of its making."""
    try:
        said = json.loads(text)
    except RecursionError:
        said = None
    if not isinstance(said, dict) or any(not isinstance(said.get(name), str) for name in ("place", "kind")):
        raise ValueError("what it says is none of its answers")
    words = {name: untrusted.plain(said[name]) for name in ("place", "kind", "unwritable", "mount", "untried") if name in said}
    return {**words, **{name: bool(said.get(name)) for name in ("d_type", "fuse")}}


def configured(text: str) -> str:
    """What the host's own storage.conf decides, so that nothing is to be tried; empty where it decides nothing."""
    for name, value in re.findall(r'^\s*(driver|rootless_storage_path|mount_program)\s*=\s*"([^"]+)"', text, re.MULTILINE):
        if (name, value) != ("driver", "overlay"):
            return f"{name} is {value}"
    return ""


def trouble(said: dict) -> str:
    """Why images cannot lie there; empty where they can."""
    there, kind = f"{said['place']} is on {said['kind']}", said["kind"]
    if kind in NETWORK:
        return f"{there}, a network file system, on which rootless Podman can keep no images"
    if kind in STACKED and not said.get("fuse"):
        return f"{there}, on which the kernel lays no other overlay"
    if "unwritable" in said:
        return f"{there}, where its owner cannot write: {said['unwritable']}"
    if not said["d_type"]:
        return f"{there} without d_type (xfs made with ftype=0), which overlay needs"
    refused = said.get("mount", "")
    # A system that lets Podman alone make such mounts (AppArmor on Ubuntu) says nothing about the file system
    if refused and not said.get("fuse") and not re.search("permission denied|not permitted|must be superuser", refused, re.IGNORECASE):
        return f"{there}, which rootless overlay does not take: {refused}"
    return ""


def finding(home: str) -> tuple[str, str]:
    """(level, sentence) of a home."""
    try:
        with open(CONFIGURATION, encoding="utf-8", errors="replace") as handle:
            decided = configured(handle.read())
    except OSError:
        decided = ""
    if decided:
        return "OK", f"left to {CONFIGURATION}, where {decided}"
    try:
        said = probe(home)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return "WARN", f"could not be tried: {error}"
    reason = trouble(said)
    return ("FAIL", reason) if reason else ("OK", f"{said['place']} is on {said['kind']}, which takes rootless overlay")

"""Backups off the host: restic encrypts everything with the passphrase before it leaves, and brings it back.

Runs inside the user namespace, so that files of the container's users are read, and come back with their owners on any host.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import urllib.parse

from senex_backup.common import Settings, Trouble, say

RESTIC = "/usr/bin/restic"
DIRECTORIES = ("postgresql", "redis", "media", "barman")  # whichever are there
TAG = "senex"
ANSWER = 60  # seconds in which the storage must let the repository be opened; restic itself would try for a quarter of an hour
GONE = "no such file or directory"


def environment(settings: Settings) -> dict[str, str]:
    """Where and with what: secrets are in files that restic reads, and on no command line."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": settings.home,
        "LANG": "C.UTF-8",
        "RESTIC_REPOSITORY": settings["offsite"]["repository"],
        "RESTIC_PASSWORD_FILE": settings.secret("passphrase"),
        "AWS_SHARED_CREDENTIALS_FILE": settings.secret("s3-credentials"),
        "RESTIC_CACHE_DIR": os.path.join(settings.home, ".cache/restic"),
    }


def command(settings: Settings, *words: str) -> list[str]:
    authority = settings.secret("s3-ca.crt")
    return [RESTIC, *(["--cacert", authority] if os.path.exists(authority) else []), *words]


def reachable(settings: Settings) -> None:
    """Say at once that the storage does not answer."""
    if not settings["offsite"]["repository"]:
        raise Trouble("there is no copy off the host: set backup_offsite_repository, backup_offsite_access_key, backup_offsite_secret_key, backup_passphrase")
    url = urllib.parse.urlsplit(settings["offsite"]["repository"].removeprefix("s3:"))
    port = url.port or (80 if url.scheme == "http" else 443)
    try:
        socket.create_connection((url.hostname, port), timeout=15).close()
    except OSError as error:
        raise Trouble(f"the storage of backup_offsite_repository, {url.hostname}:{port}, cannot be reached: {error.strerror or error}") from error


def restic(settings: Settings, *words: str, allowed: tuple[int, ...] = (0,), timeout: int | None = None) -> subprocess.CompletedProcess:
    """Run restic, and say what it said when it fails."""
    # Below backups, and from there: paths in the repository are relative, so a host with another home finds them too
    try:
        result = subprocess.run(command(settings, *words), cwd=settings.backups, env=environment(settings), capture_output=True, text=True,
                                errors="replace", stdin=subprocess.DEVNULL, timeout=timeout, check=False)  # fmt: skip
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"").decode(errors="replace").strip()[-500:]
        raise Trouble(f"the storage of backup_offsite_repository gave no good answer in {timeout} s: are bucket and keys right? {said}") from error
    if result.returncode not in allowed:
        raise Trouble(f"restic {words[0]} ended with {result.returncode}: {told(result)}")
    return result


def told(result: subprocess.CompletedProcess) -> str:
    """The end of what it printed, where the reason is."""
    lines = [line for line in f"{result.stdout}\n{result.stderr}".splitlines() if line.strip() and not line.startswith("{")]
    return " / ".join(lines[-8:])[-900:]


def opened(settings: Settings, begin: bool = True) -> None:
    """The repository is there and opens with the passphrase; one that was never there is begun."""
    reachable(settings)
    result = restic(settings, "cat", "config", allowed=(0, 1, 10, 12), timeout=ANSWER)
    if result.returncode == 0:
        restic(settings, "unlock")  # locks of runs that were killed; those of living ones stay
    elif result.returncode == 12 or "wrong password" in result.stderr:
        raise Trouble("backup_passphrase does not open the repository: it is the one of another passphrase. See docs/backups.md")
    elif begin and (result.returncode == 10 or "does not exist" in result.stderr):
        restic(settings, "init", timeout=ANSWER)
        say("began a new repository")
    else:
        raise Trouble(f"the repository cannot be opened: {told(result)}")


def send(settings: Settings) -> dict:
    """Everything that is complete goes off the host; what is there already is not sent again."""
    opened(settings)
    places = [name for name in DIRECTORIES if os.path.isdir(os.path.join(settings.backups, name))]
    words = ["backup", "--json", "--host", settings["offsite"]["host"], "--tag", TAG, "--exclude", "*.part", "--exclude", "*.gone", *places]
    result = restic(settings, *words, allowed=(0, 3))
    if result.returncode == 3:
        unread(result)
    summary = next((found for found in map(parsed, reversed(result.stdout.splitlines())) if found.get("message_type") == "summary"), {})
    if not summary.get("snapshot_id"):
        raise Trouble(f"restic backup made nothing: {told(result)}")
    say(f"sent {', '.join(places)}: {summary['total_bytes_processed']} bytes, {summary['data_added']} of them new, as {summary['snapshot_id'][:8]}")
    return {"what": summary["snapshot_id"], "bytes": summary["total_bytes_processed"], "new_bytes": summary["data_added"]}


def parsed(line: str) -> dict:
    with contextlib.suppress(ValueError):
        found = json.loads(line)
        return found if isinstance(found, dict) else {}
    return {}


def unread(result: subprocess.CompletedProcess) -> None:
    """Files that were pruned or finished while restic looked are no failure; any other that it could not read is."""
    errors = [found for found in map(parsed, result.stderr.splitlines()) if found.get("message_type") == "error"]
    bad = [found for found in errors if GONE not in json.dumps(found.get("error", "")).lower()]
    if bad or not errors:
        raise Trouble(f"restic backup could not read everything: {json.dumps(bad[:3]) if bad else told(result)}")


def check(settings: Settings) -> dict:
    """Drop what is too old, then have the repository checked, and a part of its data read back."""
    opened(settings)
    keep = [word for name, number in settings["offsite"]["keep"].items() if int(number) for word in (f"--keep-{name}", str(number))]
    restic(settings, "forget", "--host", settings["offsite"]["host"], "--tag", TAG, "--group-by", "host", "--prune", *keep)
    restic(settings, "check", f"--read-data-subset={settings['offsite']['subset']}")
    newest = json.loads(restic(settings, "snapshots", "--json", "--host", settings["offsite"]["host"], "--tag", TAG).stdout)
    if not newest:
        raise Trouble("the repository holds nothing of this system")
    say(f"checked: {len(newest)} copies, the newest of {newest[-1]['time'][:19]}")
    return {"what": newest[-1]["id"], "bytes": None}


def fetch(settings: Settings, snapshot: str) -> dict:
    """Bring everything back beside what is there. A file of this host is never overwritten."""
    opened(settings, begin=False)
    incoming = os.path.join(settings.backups, "incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    os.makedirs(incoming, mode=0o700)
    words = ["--host", settings["offsite"]["host"], "--tag", TAG] if snapshot == "latest" else []
    restic(settings, "restore", snapshot, *words, "--target", incoming)
    came, kept = 0, []
    for name in sorted(os.listdir(incoming)):
        more, there = merge(os.path.join(incoming, name), os.path.join(settings.backups, name))
        came, kept = came + more, kept + there
    shutil.rmtree(incoming)
    say(f"fetched {came} files and directories to {settings.backups}; {len(kept)} files were here already and stay as they are")
    return {"what": settings.backups, "came": came, "kept": len(kept)}


def merge(source: str, target: str) -> tuple[int, list[str]]:
    """Move what the target does not have; how much that was, and which files it had."""
    if not os.path.lexists(target):
        shutil.move(source, target)
        return 1, []
    if not os.path.isdir(source) or os.path.islink(source):
        return 0, [target]
    came, kept = 0, []
    for name in sorted(os.listdir(source)):
        more, there = merge(os.path.join(source, name), os.path.join(target, name))
        came, kept = came + more, kept + there
    return came, kept


def passthrough(settings: Settings, words: list[str]) -> None:
    """Become restic itself, with everything it needs to know: snapshots, key, mount, ..."""
    reachable(settings)
    os.chdir(settings.backups)
    os.execve(RESTIC, command(settings, *words), environment(settings))  # noqa: S606

"""Backups off the host: restic encrypts everything with the passphrase before it leaves.

Runs inside the user namespace, so that files of the container's users are read, and come back with their owners on any host.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import socket
import subprocess
import urllib.parse

from senex_backup import dead_locks, held_locks, kinds
from senex_backup.common import BackupError, NotNow, Settings, alone, say
from senex_backup.postgresql import dump_file

RESTIC = "/usr/bin/restic"
TAG, WAL_TAG = "senex", "senex-wal"  # whole copies, and those of WAL alone
NOT_WAL = ("barman/*/base", "barman/*/meta", "barman/kept/*/*/base", "barman/kept/*/*/meta")  # for the whole copy
LOCKED = 3600  # seconds that a run waits while the repository is being thinned out or checked
LOOK = 120  # seconds after which it looks who has the lock
BY_HAND = "5m"  # how long whoever calls restic waits for a lock; its holder is told then
ANSWER = 60  # seconds in which the storage must let the repository be opened; restic itself would try for a quarter of an hour
GONE = "no such file or directory"


def environment(settings: Settings) -> dict[str, str]:
    """Where and with what: secrets are in files that restic reads, and on no command line."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": settings.home,
        "LANG": "C.UTF-8",
        "TZ": "UTC",  # copies of several machines are told apart by their times
        "RESTIC_REPOSITORY": settings["offsite"]["repository"],
        "RESTIC_PASSWORD_FILE": settings.secret("passphrase"),
        "AWS_SHARED_CREDENTIALS_FILE": settings.secret("s3-credentials"),
        "RESTIC_CACHE_DIR": os.path.join(settings.home, ".cache/restic"),
    }


def command(settings: Settings, *words: str, patience: str) -> list[str]:
    authority = settings.secret("s3-ca.crt")
    return [RESTIC, "--retry-lock", patience, *(["--cacert", authority] if os.path.exists(authority) else []), *words]


def reachable(settings: Settings) -> None:
    """Say at once that the storage does not answer."""
    if not settings["offsite"]["repository"]:
        raise BackupError(
            "there is no copy off the host: set backup_offsite_repository, backup_offsite_access_key, backup_offsite_secret_key, backup_passphrase"
        )
    url = urllib.parse.urlsplit(settings["offsite"]["repository"].removeprefix("s3:"))
    port = url.port or (80 if url.scheme == "http" else 443)
    try:
        socket.create_connection((url.hostname, port), timeout=15).close()
    except OSError as error:
        raise NotNow(f"the storage of backup_offsite_repository, {url.hostname}:{port}, cannot be reached: {error.strerror or error}") from error


def restic(settings: Settings, *words: str, allowed: tuple[int, ...] = (0,), timeout: int | None = None, keep: tuple[int, ...] = (),
           apart: bool = False, **instead: str) -> subprocess.CompletedProcess:  # fmt: skip
    """Run restic, and say what it said when it fails. `keep`: files that restic inherits; `instead`: variables of its environment with other values.

    `apart`: where it sees no other process, by whoever knows that no restic runs.
    """
    wait, told_of = held_locks.Wait(), ""
    while True:
        result = once(settings, *words, timeout=timeout, keep=keep, apart=apart, **instead)
        if not held_locks.is_why(result) or "--retry-lock" in words or wait.lasted() >= LOCKED:
            break
        unlock(settings)
        holders = held(settings)
        if dead := wait.dead(holders):
            raise BackupError(held_locks.ended(dead))
        if holders and told_of != holders[0].who:
            told_of = holders[0].who
            say(f"{held_locks.holds(holders[0])}: waiting for its end, {LOCKED // 60} minutes at most")
    if result.returncode not in allowed:
        raise BackupError(f"restic {words[0]} ended with {result.returncode}: {told(result)}")
    return result


def held(settings: Settings) -> list[held_locks.Holder]:
    """The locks in the repository; one that goes meanwhile is none."""
    found = []
    for identity in once(settings, "list", "locks", "--no-lock", timeout=ANSWER).stdout.split():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found.append(held_locks.Holder.of(identity, once(settings, "cat", "lock", identity, "--no-lock", timeout=ANSWER).stdout))
    return found


def once(settings: Settings, *words: str, timeout: int | None, keep: tuple[int, ...] = (), apart: bool = False, **instead: str) -> subprocess.CompletedProcess:
    """Run restic, which waits a little for a lock."""
    about = environment(settings) | instead
    whole = [*(dead_locks.APART if apart else ()), *command(settings, *words, patience=f"{LOOK}s")]
    runs = () if apart else (dead_locks.held(settings),)
    # Below backups, and from there: paths in the repository are relative, so a host with another home finds them too
    try:
        result = subprocess.run(whole, cwd=settings.backups, env=about, capture_output=True, text=True, pass_fds=(*keep, *runs),
                                errors="replace", stdin=subprocess.DEVNULL, timeout=timeout, check=False)  # fmt: skip
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"").decode(errors="replace").strip().rpartition("\n")[2][-500:]
        raise NotNow(f"the storage of backup_offsite_repository gave no good answer in {timeout} s: are bucket and keys right? {said}") from error
    finally:
        for descriptor in runs:
            os.close(descriptor)
    return result


def told(result: subprocess.CompletedProcess) -> str:
    """The end of what it printed, where the reason is."""
    lines = [line for line in f"{result.stdout}\n{result.stderr}".splitlines() if line.strip() and not line.startswith("{")]
    return " / ".join(lines[-8:])[-900:]


def opened(settings: Settings, begin: bool = True) -> None:
    """The repository is there and opens with the passphrase; one that was never there is begun."""
    reachable(settings)
    # Without a lock: one of a run that was killed, or of one that thins out, would look like a storage that does not answer
    look = ("cat", "config", "--no-lock")
    result = restic(settings, *look, allowed=(0, 1, 10, 12), timeout=ANSWER)
    if result.returncode == 0:
        unlock(settings)
    elif result.returncode == 12 or "wrong password" in result.stderr:
        raise BackupError("backup_passphrase does not open the repository: it is the one of another passphrase. See docs/operations/backups.md")
    elif result.returncode == 10 or "does not exist" in result.stderr:
        if not begin:
            raise BackupError("there is no repository at backup_offsite_repository: nothing was ever sent there, or it is not where the lost host sent to")
        # Two that begin one at the same moment would each seal it with a key of their own
        with alone(settings, "beginning", 2 * ANSWER):
            if restic(settings, *look, allowed=(0, 1, 10), timeout=ANSWER).returncode:
                restic(settings, "init", timeout=ANSWER)
                say("began a new repository")
    else:
        raise BackupError(f"the repository cannot be opened: {told(result)}")


def unlock(settings: Settings) -> None:
    """Locks of runs that were killed go; those of living ones stay."""
    with dead_locks.none_runs(settings) as none_runs:
        if none_runs:
            try:
                restic(settings, "unlock", timeout=ANSWER, apart=True)
                return
            except BackupError as error:
                say(f"<4>restic looks for locks of runs that were killed by the numbers of processes alone: {error}")
    restic(settings, "unlock")


def machine() -> str:
    """What tells this machine from the one that stood here before; the id itself is nobody else's business."""
    with open("/etc/machine-id", encoding="ascii") as handle:
        return hashlib.sha256(f"senex.trader backup {handle.read().strip()}".encode()).hexdigest()[:12]


def send(settings: Settings) -> dict:
    """Everything that is complete goes off the host; what is there already is not sent again."""
    opened(settings)
    places = [name for name in ("postgresql", *kinds.directories(), "barman") if os.path.isdir(os.path.join(settings.backups, name))]
    jobs = [job for job in settings["jobs"] if not job.startswith("offsite")]
    summary = backup(settings, [TAG, *jobs], *without(settings, unfinished()), *places)
    say(f"sent {', '.join(places)}: {summary['total_bytes_processed']} bytes, {summary['data_added']} of them new, as {summary['snapshot_id'][:8]}")
    # What is in a whole copy is not needed twice
    thinned = restic(settings, "forget", *mine(settings, WAL_TAG), "--group-by", "host", "--keep-last", "3", allowed=(0, 1, 3))
    if thinned.returncode:
        say(f"<4>older copies of WAL stay until offsite-check: {told(thinned)}")
    return outcome(summary)


def send_wal(settings: Settings) -> dict:
    """WAL alone, every few minutes: what was written since the last whole copy is what a lost host would cost."""
    place = "barman"
    if not os.path.isdir(os.path.join(settings.backups, place)):
        raise BackupError(f"there is no {settings.backups}/{place}: role pitr has not run, or backup_offsite_wal_interval should be 0")
    reachable(settings)
    words = [[WAL_TAG], *without(settings, NOT_WAL), place]
    try:
        summary = backup(settings, *words, "--retry-lock", "0s")  # a lock may be of a run that was killed: no waiting for that
    except BackupError:
        opened(settings)  # says what is the matter, or begins the repository; each look costs a second, and there are hundreds a day
        summary = backup(settings, *words)
    return outcome(summary)


def unfinished() -> tuple[str, ...]:
    """What is no copy yet, below backups."""
    return ("postgresql/*.part", *(f"{module.DIRECTORY}/{pattern}" for module in kinds.every().values() for pattern in module.UNFINISHED))


def without(settings: Settings, patterns: tuple[str, ...]) -> list[str]:
    """Words that leave out paths below backups, and nothing of the same name elsewhere: users may call an upload what they like."""
    return [word for pattern in patterns for word in ("--exclude", f"{os.path.realpath(settings.backups)}/{pattern}")]


def outcome(summary: dict) -> dict:
    return {"what": summary["snapshot_id"], "bytes": summary["total_bytes_processed"], "new_bytes": summary["data_added"]}


def mine(settings: Settings, tag: str) -> list[str]:
    """Words that choose this machine's own copies: those of the machine before are nobody's to thin out."""
    # Clones may have one machine id: by its name as well
    return ["--host", settings["offsite"]["host"], "--tag", f"{tag},machine-{machine()},on-{socket.gethostname()}"]


def clusters(settings: Settings) -> list[str]:
    """Which clusters of PostgreSQL the dumps and the archive of WAL are of: system identifiers, the newest dump's and the archive's own."""
    found = set()
    place = os.path.join(settings.backups, "postgresql")
    for name in dump_file.dumps(place)[-1:] if os.path.isdir(place) else []:
        found.add(str(dump_file.facts(os.path.join(place, name)).get("cluster", "")))
    for path in glob.glob(os.path.join(glob.escape(settings.backups), "barman/*/identity.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError), open(path, encoding="utf-8") as handle:
            found.add(str(json.load(handle)["systemid"]))
    return sorted(one for one in found if one.isdigit())


def backup(settings: Settings, tags: list[str], *words: str) -> dict:
    """A copy, and restic's summary of it."""
    known = [f"cluster-{one}" for one in clusters(settings)]
    marks = [word for tag in (*tags, f"machine-{machine()}", f"on-{socket.gethostname()}", *known) for word in ("--tag", tag)]
    result = restic(settings, "backup", "--json", "--host", settings["offsite"]["host"], *marks, *words, allowed=(0, 3))
    if result.returncode == 3:
        unread(result)
    summary = next((found for found in map(parsed, reversed(result.stdout.split("\n"))) if found.get("message_type") == "summary"), {})
    if not summary.get("snapshot_id"):
        raise BackupError(f"restic backup made nothing: {told(result)}")
    return summary


def parsed(line: str) -> dict:
    with contextlib.suppress(ValueError):
        found = json.loads(line)
        return found if isinstance(found, dict) else {}
    return {}


def unread(result: subprocess.CompletedProcess) -> None:
    """Files that were pruned or finished while restic looked are no failure; any other that it could not read is."""
    errors = [found for found in map(parsed, result.stderr.split("\n")) if found.get("message_type") == "error"]
    bad = [found for found in errors if GONE not in json.dumps(found.get("error", "")).lower()]
    if bad or not errors:
        raise BackupError(f"restic backup could not read everything: {json.dumps(bad[:3]) if bad else told(result)}")


def check(settings: Settings) -> dict:
    """Drop what is too old, then have the repository checked, and a part of its data read back."""
    opened(settings)
    keep = [word for name, number in settings["offsite"]["keep"].items() if int(number) for word in (f"--keep-{name}", str(number))]
    restic(settings, "forget", *mine(settings, TAG), "--group-by", "host", "--prune", *keep)
    restic(settings, "check", f"--read-data-subset={settings['offsite']['subset']}")
    newest = json.loads(restic(settings, "snapshots", "--json", *mine(settings, TAG)).stdout)
    if not newest:
        raise BackupError("the repository holds nothing of this machine")
    say(f"checked: {len(newest)} copies, the newest of {newest[-1]['time'][:19]}")
    return {"what": newest[-1]["id"], "bytes": None}


CHOOSES = re.compile(r"--(tag|host|path)(=.*)?|--dry-run|-[a-z]*n[a-z]*|--help|-h|[0-9a-f]{8,64}|latest")


def forgets_all(words: list[str]) -> bool:
    """Whether restic is asked to drop copies, and nothing says of whom."""
    return "forget" in words and not any(CHOOSES.fullmatch(word) for word in words[words.index("forget") + 1 :])


def passthrough(settings: Settings, words: list[str]) -> None:
    """Become restic itself, with everything it needs to know: snapshots, key, mount, ..."""
    if forgets_all(words):
        raise BackupError(
            "restic forget: without --tag, --host, --path or the ID of a copy it removes old copies of all machines in the repository, also those of a lost "
            "host. Name what may go, as in --tag machine-ID (senex backup restic snapshots); --dry-run shows what would"
        )
    reachable(settings)
    os.chdir(settings.backups)
    os.set_inheritable(dead_locks.held(settings), True)
    os.execve(RESTIC, command(settings, *words, patience=BY_HAND), environment(settings))  # noqa: S606

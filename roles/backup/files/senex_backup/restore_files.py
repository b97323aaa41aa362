"""Redis or media restored from a copy of theirs: shown, laid beside what is in use, put in its place while nobody uses it. The way back is a name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time

from senex_backup import exchange, fetch, media, redis
from senex_backup.common import PODMAN, BackupError, Settings, need, podman, say
from senex_backup.postgresql import dump_file

MODULES = {"redis": redis, "media": media}
EMPTY = "empty"  # in place of a copy of Redis
MANY = 20  # queues that a plan names


def chosen(settings: Settings, kind: str, name: str) -> str:
    """Path of a copy by its name; `newest` is the newest."""
    directory = settings.directory(kind)
    there = MODULES[kind].copies(directory)
    wanted = dump_file.newest({one: MODULES[kind].stamp(one) for one in there}) if name == "newest" and there else os.path.basename(name)
    if wanted not in there:
        aside = kept(settings, kind)
        hint = f"; kept aside by earlier restores: {', '.join(aside)}" if aside else ""
        raise BackupError(f"there is no copy {name} in {directory}: see {settings.home}/bin/backup list, and backup fetch for those off the host{hint}")
    return os.path.join(directory, wanted)


def plan(settings: Settings, kind: str, name: str, fetched: bool = False) -> dict:
    """What a restore would do; a copy that is damaged ends it here, before anything has changed."""
    directory = exchange.place(settings, kind)
    for path, _below in exchange.places(settings, kind):
        if not os.path.isdir(path):
            raise BackupError(f"{path} is not there: has site.yml run on this host?")
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    wanted = {"kind": kind, "stamp": stamp, "directory": directory, "aside": os.path.join(directory, exchange.ASIDE + stamp), "now": now(settings, kind)}
    if kind == "redis" and name == EMPTY:
        return {**wanted, "name": "nothing", "empty": True, "path": "nothing", "holds": "it begins empty"}
    if name in kept(settings, kind):
        return {**wanted, "name": name, "back": name, "path": os.path.join(directory, f".{name}"), "holds": "what an earlier restore put aside"}
    came = fetch.read(settings, "fetched.json") if fetched else {}
    # This host may have made newer ones, of its own that is empty
    path = chosen(settings, kind, came.get(kind) or name if name == "newest" else name)
    if kind == "redis":
        redis.verify(settings, path)
        holds, size = redis.check(settings, path), os.path.getsize(path)
    else:
        holds = json.loads(namespace("proof", {"path": path}))
        size = holds["bytes"]
    need(directory, size, f"what is restored beside {kind}")
    return {**wanted, "name": os.path.basename(path), "path": path, "holds": holds, "machine": came.get("machine"), "source": came.get("copy")}


def now(settings: Settings, kind: str) -> list[str]:
    """What is in use, for a person who is about to lose sight of it. One that does not answer may be why this is done."""
    if kind == "media":
        return [f"with the volume in {path}" for path, below in exchange.places(settings, kind) if below]
    try:
        container = settings["redis"]["container"]
        held = re.findall(r"^db(\d+):keys=(\d+)", podman("exec", container, "redis-cli", "-e", "info", "keyspace", timeout=20), re.MULTILINE)
        lines = [f"database {number}: {keys} keys" for number, keys in held]
        for number, _keys in held:
            for queue in queues(container, number)[:MANY]:
                length = podman("exec", container, "redis-cli", "-e", "-n", number, "llen", queue, timeout=20).strip()
                lines.append(f"database {number}: {length} messages in {ascii(queue)}")
            waiting = podman("exec", container, "redis-cli", "-e", "-n", number, "hlen", "unacked", timeout=20).strip()
            if waiting not in ("", "0"):
                lines.append(f"database {number}: {waiting} tasks that workers have begun and not finished")
    except BackupError as trouble:
        return [f"Redis does not answer: {' '.join(str(trouble).split())[:200]}"]
    return lines or ["Redis is empty"]


def queues(container: str, number: str) -> list[str]:
    """Keys of lists, which queues are; as far as the first two million keys show them."""
    found, cursor = [], "0"
    for _ in range(200):
        cursor, *names = podman("exec", container, "redis-cli", "-e", "-n", number, "scan", cursor, "count", "10000", "type", "list", timeout=20).split("\n")
        found += names
        if cursor == "0":
            break
    return sorted({name for name in found if name})


def kept(settings: Settings, kind: str) -> list[str]:
    """What earlier restores put aside; the directory is the container's user's."""
    return json.loads(namespace("show", {"kind": kind})) if os.path.isdir(exchange.place(settings, kind)) else []


def namespace(step: str, wanted: dict) -> str:
    """A step in the user namespace, where files of the container's user can be handled; what it says."""
    argv = [PODMAN, "unshare", sys.executable, "-IB", os.path.realpath(sys.argv[0]), "exchange", step, json.dumps(wanted)]
    result = subprocess.run(argv, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False)
    if result.returncode:
        raise BackupError(result.stderr.strip().rpartition("\n")[2].removeprefix("backup: ") or f"podman unshare ended with {result.returncode}")
    return result.stdout.strip()


def load(settings: Settings, wanted: dict) -> dict:
    """The copy's files beside those in use, which stay as they are."""
    if not wanted.get("back") and not wanted.get("empty"):
        if wanted["kind"] == "redis":
            redis.verify(settings, wanted["path"])
        namespace("bring", wanted)
    return wanted


def swap(settings: Settings, wanted: dict) -> dict:
    """What is ready takes the place of what is in use. Nobody may write there meanwhile: Redis would, when it ends."""
    if wanted["kind"] == "redis" and running(settings):
        raise BackupError("Redis runs: stop redis.service first")
    say(namespace("swap", wanted))
    if wanted.get("machine"):
        fetch.take_over(settings, wanted["machine"], wanted["kind"])
    return wanted


def running(settings: Settings) -> bool:
    shown = subprocess.run([PODMAN, "inspect", "--format", "{{.State.Running}}", settings["redis"]["container"]], capture_output=True, text=True, check=False)
    return shown.stdout.strip() == "true"


def loaded(settings: Settings, wanted: dict) -> dict:
    """Redis, started again, holds what was in the copy. Keys with an end may have met it."""
    if wanted["kind"] == "redis" and not wanted.get("back") and not wanted.get("empty"):
        held = podman("exec", settings["redis"]["container"], "redis-cli", "-e", "info", "keyspace", timeout=20)
        there = sum(int(keys) for keys in re.findall(r"^db\d+:keys=(\d+)", held, re.MULTILINE))
        lasting = wanted["holds"]["keys"] - wanted["holds"]["expiring"]
        if there < lasting:
            raise BackupError(f"Redis holds {there} keys, and {wanted['name']} has {lasting} that last")
        say(f"Redis holds {there} keys; {wanted['name']} has {wanted['holds']['keys']}, {wanted['holds']['expiring']} of them with an end")
    return wanted


STEPS = {"load": load, "swap": swap, "loaded": loaded}


def step(settings: Settings, kind: str, which: str, argument: str, fetched: bool = False) -> dict:
    """One of them, each told what the one before it found."""
    if which == "plan":
        return plan(settings, kind, argument, fetched)
    return STEPS[which](settings, json.loads(argument))

#!/usr/bin/python3 -IB
"""What is wrong with Redis' files, and what of them can be saved: `senex redis check`, `senex redis repair`. Runs as the service user."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time

HOME = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(HOME, "lib"))

from senex_redis import confined  # noqa: E402  (the path above must come first)

UNIT_FILE = os.path.join(HOME, ".config/containers/systemd/redis.container")
COPIES = os.path.join(HOME, "backups/redis")
UNIT = "redis.service"
COPY = re.compile(r"redis-\d{4}-\d\d-\d\d-\d{6}\.rdb")
CLOSED = ["--rm", "--pull=never", "--network=none", "--read-only", "--log-driver=none"]
ANALYZED = re.compile(r"^AOF analyzed: filename=(\S+), size=(\d+), ok_up_to=(\d+)", re.MULTILINE)
LOOKED_AT = re.compile(r"(?:Checking RDB file|Cannot (?:open|stat) file) (?:\S*/)?([\w.-]+\w)")
REASON = re.compile(r"^0x\s*[0-9a-f]+: (.+)$", re.MULTILINE)
# The files of the log and the snapshot, each with time and size, and what the whole log takes in kB
LIST = """
cd /data
[ ! -d appendonlydir ] || stat -c '%Y %s %n' appendonlydir/*
[ ! -d appendonlydir ] || du -sk appendonlydir | sed 's/[^0-9].*//; s/^/kb /'
[ ! -s dump.rdb ] || stat -c '%Y %s %n' dump.rdb
"""
CHECK_LOG = "redis-check-aof /data/appendonlydir/appendonly.aof.manifest"
CHECK_SNAPSHOT = "redis-check-rdb /data/dump.rdb"
# The log is mended in a copy, which takes its place when it is whole: Redis may be started by others meanwhile
CUT = """
set -eu
cd /data
rm -rf appendonlydir.mended
cp -a appendonlydir appendonlydir.mended
yes | redis-check-aof --fix appendonlydir.mended/appendonly.aof.manifest
redis-check-aof appendonlydir.mended/appendonly.aof.manifest
sync
"""
SWAP = "cd /data && mv appendonlydir appendonlydir.damaged-{now} && mv appendonlydir.mended appendonlydir"
# start.sh begins the log with the snapshot where there is no log
ASIDE = "cd /data && { [ ! -e appendonlydir ] || mv appendonlydir appendonlydir.damaged-{now}; }"
REPLACE = """
set -eu
cd /data
cat >dump.rdb.new
redis-check-rdb dump.rdb.new >/dev/null
sync
[ ! -e dump.rdb ] || mv dump.rdb dump.rdb.damaged-{now}
mv dump.rdb.new dump.rdb
"""


class RedisError(Exception):
    """One sentence for the person; the command ends with 1."""


def run(*argv: str, stdin=subprocess.DEVNULL) -> subprocess.CompletedProcess:
    """A command, with what it said: a checker repeats what is in a file, and whoever wrote that is not who reads it here."""
    done = subprocess.run(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    done.stdout = "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in done.stdout)
    return done


def unit(text: str) -> tuple[str, str, str]:
    """Image, user and data directory of the unit."""
    found = [re.search(pattern, text, re.MULTILINE) for pattern in (r"^Image=(\S+)", r"^User=(\d+)", r"^Volume=(\S+):/data$")]
    if not all(found):
        raise RedisError(f"{UNIT_FILE} names no image, user or data directory: run the playbook with --tags redis")
    return found[0][1], found[1][1], found[2][1]


class Data:
    """The data directory, seen and changed as Redis' own user by the image's own programs, in a container that can do nothing else."""

    def __init__(self):
        try:
            with open(UNIT_FILE, encoding="utf-8") as handle:
                self.image, self.user, self.directory = unit(handle.read())
        except FileNotFoundError:
            raise RedisError("Redis is not on this host; ask on the one of the group redis") from None

    def ask(self, script: str, stdin=None) -> subprocess.CompletedProcess:
        """What a script says. Never read-only: redis-check-aof opens what it checks for writing."""
        words = [*confined.OPTIONS, *CLOSED, *(["--interactive"] if stdin else []), "--entrypoint=sh"]
        words += [f"--user={self.user}", f"--volume={self.directory}:/data"]
        return run("podman", "run", *words, self.image, "-c", script, stdin=stdin or subprocess.DEVNULL)

    def do(self, script: str, stdin=None) -> None:
        """A script that has to succeed."""
        done = self.ask(script, stdin)
        if done.returncode:
            raise RedisError(f"it ended with {done.returncode}, and what is damaged is where it was: {' '.join(done.stdout.split())[-500:]}")


def moment(seconds: float) -> str:
    """A time as people write it."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def parse_list(text: str) -> dict:
    """Files of the log and the snapshot, each as (time, bytes), and how many bytes a copy of the log takes."""
    files = {name: (int(when), int(size)) for when, size, name in re.findall(r"^(\d+) (\d+) (\S+)$", text, re.MULTILINE)}
    kilobytes = re.search(r"^kb (\d+)$", text, re.MULTILINE)
    log = {name.partition("/")[2]: one for name, one in files.items() if "/" in name}
    return {"log": log, "snapshot": files.get("dump.rdb"), "bytes": int(kilobytes[1]) * 1024 if kilobytes else 0}


def judge(said: str, code: int) -> dict:
    """What redis-check-aof found: the damaged file, and where it is known its size and from which byte on. Empty where all is well."""
    if code == 0:
        return {}
    for name, size, good in reversed(ANALYZED.findall(said)):
        if size != good:
            return {"file": name, "size": int(size), "good": int(good), "why": next(iter(REASON.findall(said)), "")}
    # A base that is no RDB is named before it is read, and the check ends there
    return {"file": (LOOKED_AT.findall(said) or ["appendonly.aof.manifest"])[-1], "size": 0, "good": 0, "why": ""}


def look(data: Data) -> tuple[dict, dict]:
    """Which files there are, and which one is damaged."""
    if run("systemctl", "--user", "is-active", UNIT).stdout.strip() == "active":
        raise RedisError("Redis runs, so its files are good enough for it; they are looked at while it cannot start")
    listed = data.ask(LIST)
    if listed.returncode:
        raise RedisError(f"{data.directory} cannot be read: {listed.stdout.strip()[-300:]}")
    files = parse_list(listed.stdout)
    if files["log"]:
        checked = data.ask(CHECK_LOG)
        return files, judge(checked.stdout, checked.returncode)
    bad = files["snapshot"] is not None and data.ask(CHECK_SNAPSHOT).returncode != 0
    return files, {"file": "dump.rdb", "size": 0, "good": 0, "why": ""} if bad else {}


def can_be_cut(damage: dict, log: dict) -> bool:
    """Whether the damage is in the file that Redis wrote to last: only there nothing follows what is cut off."""
    numbers = {int(found[1]): name for name in log if (found := re.search(r"\.(\d+)\.incr\.aof$", name))}
    return bool(numbers) and damage.get("size", 0) > 0 and damage["file"] == numbers[max(numbers)]


def newest_copy() -> str:
    """The newest copy that role backup made; empty for none."""
    names = sorted(name for name in (os.listdir(COPIES) if os.path.isdir(COPIES) else []) if COPY.fullmatch(name))
    return os.path.join(COPIES, names[-1]) if names else ""


def plan(data: Data, files: dict, damage: dict, snapshot: bool) -> dict:
    """The way, how many bytes it needs, and lines for the person: what is done, and what is lost by it."""
    lines, log = [], files["log"]
    last = max((when for when, _size in log.values()), default=0)
    if damage:
        where = damage["file"] if damage["file"] == "dump.rdb" else f"appendonlydir/{damage['file']}"
        part = f", from byte {damage['good']} of {damage['size']} on" if damage["size"] else ""
        lines.append(f"damaged: {data.directory}/{where}{part}{': ' + damage['why'] if damage['why'] else ''}")
    if not snapshot and can_be_cut(damage, log):
        lost = damage["size"] - damage["good"]
        share = f"{lost} bytes, {100 * lost / damage['size']:.0f} % of this file"
        lines += ["what is done: the log is cut there; what it has before stays",
                  f"LOST: all that was written after that: {share}; its last write was at {moment(last)}"]  # fmt: skip
        if files["snapshot"]:
            lines.append(f"the other way, --snapshot: begin with the snapshot of {moment(files['snapshot'][0])}, without anything of the log")
        return {"way": "cut", "lines": lines, "needs": files["bytes"], "copy": ""}
    good = files["snapshot"] is not None and damage.get("file") != "dump.rdb" and data.ask(CHECK_SNAPSHOT).returncode == 0
    copy = "" if good else newest_copy()
    if not good and not copy:
        raise RedisError("\n".join([*lines, "there is neither a good snapshot (dump.rdb) nor a copy in backups/redis to begin with: see docs/user/redis.md"]))
    when, size = files["snapshot"] if good else (os.path.getmtime(copy), os.path.getsize(copy))
    lines += [f"what is done: Redis begins with {'the snapshot dump.rdb' if good else copy}, of {moment(when)}",
              f"LOST: all that was written after that{'; the last write to the log was at ' + moment(last) if last else ''}"]  # fmt: skip
    return {"way": "snapshot" if good else "copy", "lines": lines, "needs": size, "copy": copy}


def agreed(already: bool) -> bool:
    """Whether the person wants it."""
    if already:
        return True
    try:
        return input("Type yes to do it: ").strip() == "yes"
    except EOFError:
        print("\nthere is nobody to ask: say --yes")
        return False


def repair(data: Data, snapshot: bool, yes: bool) -> int:
    """Say what will be lost, ask, keep what is there aside, and start Redis."""
    files, damage = look(data)
    if not damage and not snapshot:
        raise RedisError("its files are whole as to their form, so it is something else that keeps Redis from starting: senex logs redis -n 30. "
                      "Where that names the log all the same, --snapshot begins without it")  # fmt: skip
    found = plan(data, files, damage, snapshot)
    now = time.strftime("%Y-%m-%d-%H%M%S", time.gmtime())
    print("\n".join([*found["lines"], f"what is there now stays in {data.directory}, as *.damaged-{now}"]), flush=True)
    space = os.statvfs(data.directory)
    if space.f_bavail * space.f_frsize < found["needs"] * 1.1:
        raise RedisError(f"this needs {found['needs'] * 1.1 / 1e6:.0f} MB, and {space.f_bavail * space.f_frsize / 1e6:.0f} MB are free: make room first")
    if not agreed(yes):
        print("nothing was changed")
        return 1
    if found["way"] == "cut":
        data.do(CUT)
    # Until Redis runs again nothing at a terminal ends this program, or what it calls: a Ctrl-C or a lost connection would leave it stopped
    kinds = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, kinds)
    try:
        run("systemctl", "--user", "stop", UNIT)
        if found["way"] == "copy":
            with open(found["copy"], "rb") as handle:
                data.do(REPLACE.replace("{now}", now), handle)
        data.do((SWAP if found["way"] == "cut" else ASIDE).replace("{now}", now))
    finally:
        done = run("systemctl", "--user", "start", UNIT)
        while signal.sigtimedwait(kinds - before, 0):  # what was typed meanwhile is forgotten
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if done.returncode:
        raise RedisError(f"{UNIT} did not come up: {done.stdout.strip()[-300:]}; senex logs redis -n 30 says why")
    print(f"{UNIT}: ready. When nothing is missed: podman unshare sh -c 'rm -r {data.directory}/*.damaged-{now}', as this user")
    return 0


def check(data: Data) -> int:
    """Name the damaged file."""
    files, damage = look(data)
    if not damage:
        print("the files are whole as to their form")
        return 0
    print("\n".join([*plan(data, files, damage, False)["lines"], "senex redis repair does it, and asks before"]))
    return 2


def main(arguments: list[str]) -> int:
    """Run one subcommand."""
    made = argparse.ArgumentParser(prog="senex redis", description="Redis' files when they are damaged. For its commands: senex redis-cli.")
    verbs = made.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    verbs.add_parser("check", help="name the file that is damaged, and what can be saved; ends with 2 where one is")
    one = verbs.add_parser("repair", help="cut the log where it is damaged, or begin with the snapshot; asks before, and keeps what is there")
    one.add_argument("--snapshot", action="store_true", help="begin with the snapshot (dump.rdb), without anything of the log")
    one.add_argument("--yes", action="store_true", help="do not ask")
    options = made.parse_args(arguments)
    try:
        return check(Data()) if options.verb == "check" else repair(Data(), options.snapshot, options.yes)
    except (RedisError, OSError) as error:
        print(f"senex redis {options.verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

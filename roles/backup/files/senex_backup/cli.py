"""Backups of this host: make, list, verify."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

from senex_host import host_layout

from senex_backup import common, dump, exchange, fetch, kinds, listing, media, offsite, rekey, restore, restore_files
from senex_backup.common import BackupError, Settings
from senex_backup.postgresql import dump_file

FETCHED = "which one: an id, machine-ID, on-NAME (its host's), cluster-ID, own (of this machine), or %(default)s, of the machine before this one if any"
WAIT = 900  # seconds that a second run waits for the first, unless told otherwise
# By playbooks, units and other programs
CALLED = {"taken-over", "rekey", "try-keys", "restore", "prove", "exchange", "prepare", "failed"}
STEPS = ("plan", "load", "swap", "loaded")
# For whoever types what a playbook does
RESTORES = """a backup is restored from the controller, where the inventory is: the application has to stop, and the vault to fit
    ansible-playbook playbooks/restore.yml -i inventory/ENVIRONMENT                         lists what can be restored, as 'senex backup list' does here
    ansible-playbook playbooks/restore.yml -i inventory/ENVIRONMENT -e restore_dump=NAME    shows the plan (NAME: newest, or one of the list;
                                                                                            restore_redis and restore_media likewise)
A copy of the database as of a moment, beside the one that serves: senex restore --to latest. 'senex pitr list' names the moments"""
IN_NAMESPACE = ("media", "list", "verify", "offsite", "offsite-wal", "offsite-check", "fetch", "rekey", "try-keys", "restic", "exchange")


def number(text: str) -> int:
    """Of dumps that stay: the newest does, whatever is said."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of dumps that can stay; write 1 or more")
    return int(text)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="backup", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="WHAT")

    def verb(name: str, text: str, job: bool = True) -> argparse.ArgumentParser:
        # What others call is not offered to a person
        one = verbs.add_parser(name, description=text, **({} if name in CALLED else {"help": text}))
        if job:
            one.add_argument("--wait", type=float, default=WAIT, metavar="SECONDS", help="how long to wait for one that is under way (%(default)s)")
            one.add_argument("--json", action="store_true", help="say what was made as JSON, in the last line")
        return one

    one = verb("dump", "dump the database")
    one.add_argument("--reason", choices=("daily", "pre-deploy", "manual"), default="manual", help="decides name and retention (%(default)s)")
    one.add_argument("--keep", type=number, metavar="N", help="newest dumps of this reason that stay, instead of the configured number")
    for kind, module in kinds.every().items():
        verb(kind, module.WHAT)
    verb("offsite", "send everything that is new off the host, encrypted")
    verb("offsite-wal", "send WAL alone off the host, encrypted")
    verb("offsite-check", "drop what is too old off the host, and check the rest")
    one = verb("fetch", "bring back what lies off the host; nothing of this host is overwritten", job=False)
    one.add_argument("snapshot", nargs="?", default=fetch.LATEST, help=FETCHED)
    one.add_argument("--what", action="append", choices=fetch.places(), help="this alone; may be given several times (all)")
    one.add_argument("--into", metavar="DIRECTORY", help="a directory of its own, beside which nothing is touched; with --path")
    one.add_argument("--path", action="append", metavar="PATTERN", help="what of the copy goes there; may be given several times")
    verb("taken-over", "note whose place this machine took with its database (restores call it)", job=False).add_argument("machine")
    one = verb("restic", "call restic with this host's repository and passphrase, as in: backup restic snapshots", job=False)
    one.add_argument("words", nargs=argparse.REMAINDER)
    one = verb("rekey", "let the repository take a second passphrase, given on standard input, or no longer (playbooks/rotate.yml calls it)", job=False)
    one.add_argument("stage", choices=("accept", "refuse"))
    verb("try-keys", "open the repository with keys of the storage that standard input gives (playbooks/rotate.yml calls it)", job=False)
    one = verb("restore", "one step of a restore; playbooks/restore.yml takes them in order", job=False)
    one.add_argument("step", choices=STEPS)
    one.add_argument("argument", metavar="NAME|PLAN", help="name of a backup (or newest), then what the step before printed")
    one.add_argument("--what", choices=("dump", *restore_files.MODULES), default="dump", help="what is restored (%(default)s)")
    one.add_argument("--fetched", action="store_true", help="newest is the newest of those that were fetched last")
    one = verb("prove", "restore a dump in a server that has nothing yet (pitr drill calls it, with a server that it throws away)", job=False)
    one.add_argument("name", metavar="NAME", help="name of a dump, or newest")
    one.add_argument("--container", required=True, metavar="NAME", help="the server's container; never that in production")
    one = verb("exchange", "put files of a copy in place, in the user namespace (restores call it)", job=False)
    one.add_argument("step", choices=tuple(exchange.STEPS))
    one.add_argument("argument", metavar="PLAN")
    verb("list", "show every backup and the last outcome of each job", job=False).add_argument("--json", action="store_true", help="for machines")
    verb("verify", "read backups to their end and compare checksums", job=False).add_argument("names", nargs="*", metavar="NAME", help="all, without a name")
    one = verb("accept", "say that what a backup holds less than those before was removed on purpose: those before may go when their time is over", job=False)
    one.add_argument("kind", choices=("dump", "media"))
    verb("prepare", "make the directories and the first status files (the role calls it)", job=False)
    verb("failed", "note that a unit ended without a result of its own (systemd calls it)", job=False).add_argument("unit")
    if arguments[:1] == ["restore"] and arguments[1:2] not in [[step] for step in STEPS]:
        parser.exit(2, f"backup restore: {RESTORES}\n")
    return parser.parse_args(arguments)


def prepare(settings: Settings) -> int:
    """Directories, and a status for each job that has none."""
    for directory in (dump.DIRECTORY, *kinds.directories()):
        settings.directory(directory)
    for job in settings["jobs"]:
        if not os.path.exists(os.path.join(settings.status, f"{job}.json")):
            common.write_status(settings, job, result="never")
    return 0


def fetched(settings: Settings, given: argparse.Namespace) -> int:
    """Nothing is sent meanwhile."""
    with common.alone(settings, "offsite", WAIT):
        try:
            if given.into:
                common.say(json.dumps(fetch.fetch_into(settings, given.snapshot, given.path, given.into)))
            else:
                fetch.fetch(settings, given.snapshot, given.what or fetch.places())
        except BackupError:
            offsite.reachable(settings)  # a storage that went away meanwhile says nothing of what lies there
            raise
    return 0


def restored(settings: Settings, given: argparse.Namespace) -> int:
    """No backup of the kind is made or removed meanwhile."""
    common.of_host(settings, given.what)
    with common.alone(settings, given.what, WAIT):
        if given.what == "dump":
            done = restore.step(settings, given.step, given.argument, given.fetched)
        else:
            done = restore_files.step(settings, given.what, given.step, given.argument, given.fetched)
        common.say(json.dumps(done))
    return 0


def accept(settings: Settings, kind: str) -> int:
    """A file whose time says until when."""
    path = os.path.join(settings.directory({"dump": dump.DIRECTORY, "media": media.DIRECTORY}[kind]), dump_file.ACCEPTED)
    with open(path, "w", encoding="ascii"):
        os.utime(path)
    common.say(f"backups of {kind} from before now are removed when their time is over")
    return 0


def proven(settings: Settings, given: argparse.Namespace) -> int:
    """What the drill is told, in the last line."""
    if given.container == settings["database"]["container"]:
        raise BackupError(f"--container {given.container}: the server in production is no place for a drill")
    common.say(json.dumps(restore.prove(settings, given.name, given.container)))
    return 0


def exchanged(settings: Settings, given: argparse.Namespace) -> int:
    """Under the lock of the restore that calls it."""
    exchange.STEPS[given.step](settings, json.loads(given.argument))
    return 0


def taken_over(settings: Settings, machine: str) -> int:
    fetch.take_over(settings, machine, "postgresql")
    return 0


def failed(settings: Settings, unit: str) -> int:
    """Called by OnFailure=: a line of priority err, and a status where the job was killed before it could write one."""
    job = unit.removesuffix(".service").removeprefix("backup-")
    shown = subprocess.run(["/usr/bin/systemctl", "--user", "show", "--property=Result", "--value", host_layout.job_unit(job)],
                           capture_output=True, text=True, check=False).stdout.strip()  # fmt: skip
    status = common.read_status(settings, job)
    if status["result"] != "failed":
        error = f"{host_layout.job_unit(job)} ended ({shown}) before it had written a result"
        common.write_status(settings, job, **{**{key: status[key] for key in ("started", "bytes", "what")}, "result": "failed", "finished": common.now(),
                                              "error": error})  # fmt: skip
        status["error"] = error
    common.say(f"<3>backup {job} failed: {status['error']}")
    return 0


def main() -> int:
    """One verb; the exit status is not 0 whenever something is not as it should be."""
    given = parse(sys.argv[1:])
    try:
        settings = Settings(os.path.dirname(os.path.dirname(os.path.realpath(sys.argv[0]))))
        common.is_user(settings)
        if given.verb in IN_NAMESPACE:
            media.inside(sys.argv[1:])
        jobs = {
            "dump": lambda: dump.make(settings, given.reason, given.keep),
            **{kind: lambda module=module: module.make(settings) for kind, module in kinds.every().items()},
            "offsite": lambda: offsite.send(settings),
            "offsite-wal": lambda: offsite.send_wal(settings),
            "offsite-check": lambda: offsite.check(settings),
        }
        if given.verb in jobs:
            if not given.verb.startswith("offsite"):
                common.of_host(settings, given.verb)
            elif given.verb not in settings["jobs"]:
                offsite.reachable(settings)  # there is none, and it says what makes one
            made = common.run(settings, given.verb, jobs[given.verb], given.wait)
            if given.json:
                common.say(json.dumps(made))
            return 0
        others = {
            "list": lambda: listing.show(settings, given.json),
            "verify": lambda: listing.verify(settings, given.names),
            "fetch": lambda: fetched(settings, given),
            "taken-over": lambda: taken_over(settings, given.machine),
            "restore": lambda: restored(settings, given),
            "prove": lambda: proven(settings, given),
            "exchange": lambda: exchanged(settings, given),
            "accept": lambda: accept(settings, given.kind),
            "rekey": lambda: rekey.rekey(settings, given.stage),
            "try-keys": lambda: rekey.try_keys(settings),
            "restic": lambda: offsite.passthrough(settings, given.words),
            "prepare": lambda: prepare(settings),
            "failed": lambda: failed(settings, given.unit),
        }
        return others[given.verb]()
    except (BackupError, OSError, ValueError) as error:
        return common.fail(error)

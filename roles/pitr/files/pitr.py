#!/usr/bin/python3 -I
"""Point-in-time recovery: base backups, WAL, restores and drills. Run as the service user."""

import argparse
import json
import os
import pathlib
import pwd
import sys

sys.dont_write_bytecode = True
# A directory of the program's own, installed beside it, and root's library for all programs of the host: nowhere on Python's path
sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "lib"), "/usr/local/lib/senex-trader"]

from pitr import archive, database, discard, drill, jobs, kept, offsite, programs, restore, settings  # noqa: E402  (the path above must come first)
from pitr.plan import plan  # noqa: E402
from senex_host import user_manager  # noqa: E402

EXACT = "sequences as they were then, and not raised to what has been handed out since"
# playbooks/restore.yml does all of it; who exchanges by hand is told
OF_THEN = (
    "the data has the passwords and the tables of its moment. Where a secret was rotated since, run site.yml on the control machine; where a release came, "
    "'senex manage migrate'; fields under a former key: docs/operations/rotation.md"
)


# By units, playbooks and the engine: not offered to a person
CALLED = {"set-aside", "take-back", "server", "where", "receive", "drop-slot", "install"}
NAMES = "senex pitr list: what there is, and which moments can be restored"
# Behind what argparse says of a command that lacks something, or has too much
WHAT_THERE_IS = {
    "plan": f"such as --to latest, or --to '2026-11-21 12:00:00+00'. {NAMES}",
    "restore": f"such as --to latest, or --to '2026-11-21 12:00:00+00'. {NAMES}. A dump is restored by playbooks/restore.yml, on the controller",
    "fetch": "such as --to latest. senex backup restic snapshots: what lies off the host",
    "exchange": f"the directory is one that 'senex restore' has made, and named at its end. {NAMES}",
    "undo": f"the directory is one that an exchange kept aside. {NAMES}",
    "discard": f"the directory is one that a restore or an upgrade kept. {NAMES}",
}


class Parser(argparse.ArgumentParser):
    """Says what can be given where something is missing or wrong."""

    def error(self, message):
        verb = next((word for word in self.given if word in WHAT_THERE_IS), "")
        super().error(f"{message}\n{WHAT_THERE_IS[verb]}" if verb else message)


def parse(argv):
    parser = Parser(prog="pitr", description=__doc__)
    Parser.given = argv
    parser.add_argument("--archive", metavar="NAME", help="an archive that is kept, as 'pitr list' names it: for list, verify, plan and restore --into")
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def made(name, help):
        return subparsers.add_parser(name, description=help, **({} if name in CALLED else {"help": help}))

    verb = made("base", help="take a base backup, verify it, and remove what the recovery window no longer needs")
    verb.add_argument("--wait", type=float, default=jobs.PATIENCE, metavar="SECONDS", help="how long to wait for one that is under way (%(default)s)")
    verb.add_argument("--first", action="store_true", help="only where the archive has none of the timeline that runs")
    made("wal", help="file received WAL away and write down how far behind the archive is")
    made("check", help="say what is wrong with the archive; exit 1 when something is")
    made("verify", help="read every base backup and every segment of the archive; exit 1 when one is damaged")
    verb = made("drill", help="restore the newest into a throwaway server, check it, remove it; exit 75 when that could not be tried")
    verb.add_argument("--from", choices=tuple(drill.SOURCES), dest="source", help="the archive here, the bucket alone, or the newest dump (default: in turn)")
    made("drills", help="how the last drills ended, and how long a restore takes by them")
    made("reset", help="begin anew with slot and base backup after WAL was lost")
    verb = made("list", help="base backups and the moments that can be restored")
    verb.add_argument("--json", action="store_true")
    for name, what in (("plan", "say what a restore would take"), ("restore", "make a copy as of a moment beside the data; what runs is not touched")):
        verb = made(name, help=what)
        verb.add_argument("--to", required=True, metavar="TIME", help="'2026-11-21 12:00:00+00', or latest")
        verb.add_argument("--base", metavar="ID", help="base backup to start from (default: the newest before that moment)")
        verb.add_argument("--fetched", action="store_true", help="out of the archive that 'pitr fetch' brought")
        verb.add_argument("--name", default="", metavar="OPERATION", help="what the copy is made for (playbooks/restore.yml says it)")
        if name == "restore":
            verb.add_argument("--into", metavar="DIRECTORY", help="a new directory beside the data, such as postgres.rows (default: postgres.restored)")
            verb.add_argument("--json", metavar="FILE", help="write what was found to a file as well")
    verb = made("exchange", help="put a restored copy in the place of the data, which is kept aside")
    verb.add_argument("directory")
    verb.add_argument("--fetched", action="store_true", help="the archive that 'pitr fetch' brought takes the place of this host's, which is kept aside too")
    verb.add_argument("--exact", action="store_true", help=EXACT)
    verb.add_argument("--name", default="", help="the copy of this name alone, as 'pitr restore' has said it; one that an operation has prepared needs it")
    verb = made("fetch", help="bring what a moment needs from off the host, beside this host's archive")
    verb.add_argument("--to", required=True, metavar="TIME", help="as for a restore")
    which = "which copy: an id, machine-ID, on-NAME (its host's), cluster-ID, or %(default)s (of the machine before this one, if any)"
    verb.add_argument("--snapshot", default=offsite.LATEST, metavar="ID", help=which)
    verb.add_argument("--plan", action="store_true", help="say what would be fetched, and fetch nothing")
    verb = made("undo", help="put data that was kept aside back into its place")
    verb.add_argument("directory")
    verb.add_argument("--exact", action="store_true", help=EXACT)
    verb = made("discard", help="remove for good what a restore or an upgrade kept: data, a copy of a restore, the archive of a former cluster")
    verb.add_argument("directory")
    verb = made("set-aside", help="keep the archive under another name, for another cluster to have its place (an upgrade calls it)")
    verb.add_argument("name")
    # Nobody who tries the verb by hand puts the archive of what runs away
    verb.add_argument("--image", required=True, help="the image that reads it")
    verb = made("take-back", help="put an archive that was set aside back into its place")
    verb.add_argument("name")
    verb.add_argument("--instead-of", metavar="NAME", help="the name of the one that has its place now")
    verb = made("where", help="which data is in place after an exchange that did not say so (playbooks/restore.yml calls it)")
    verb.add_argument("directory")
    verb.add_argument("--since", required=True, metavar="STAMP", help="no data that was kept aside before is looked at")
    verb = made("server", help="stop the database, or start it (playbooks/restore.yml calls it)")
    verb.add_argument("act", choices=("stop", "start"))
    made("receive", help="receive WAL until stopped, if the archive is of the cluster that runs")
    made("drop-slot", help="stop receiving, and let the database keep no WAL for the archive")
    made("install", help="make the status files that are not there")
    return parser.parse_args(argv)


def listed(conf, as_json):
    cluster = archive.identity(conf)
    found = [{"id": item.name, "end": jobs.iso(item.end_time), "bytes": item.bytes} for item in programs.catalogue(conf)]
    if as_json:
        print(json.dumps({"cluster": cluster, "base_backups": found, "kept_aside": restore.kept_aside(conf), "kept_archives": kept.names(conf)}))
        return
    if cluster:
        print(f"archive of cluster {cluster}")
    for item in found:
        print(f"{item['id']}  every moment from {item['end']} on  {item['bytes'] // 1024**2:>8} MB")
    for directory in restore.kept_aside(conf):
        print(f"kept aside by a restore: {directory}")
    for name in kept.names(conf):
        print(f"kept archive of another cluster: --archive {name}")
    if not found:
        print("no base backup")


def reads(wanted):
    """A kept archive is only read, and what comes of it does not go beside the data under a usual name: it is of another version."""
    if wanted.verb not in ("list", "verify", "plan", "restore"):
        raise jobs.PitrError("--archive: goes with list, verify, plan and restore alone")
    if wanted.verb == "restore" and not wanted.into:
        raise jobs.PitrError("--archive: say with --into where the copy is to go; it is of another cluster than the one that runs")


def act(conf, wanted):
    if wanted.verb in ("receive", "reset"):  # base and wal, which leave a status, ask in their run
        jobs.mounted(conf)
    match wanted.verb:
        case "base":
            print(archive.first_base(conf, wanted.wait) if wanted.first else archive.take_base(conf, wanted.wait).name)
        case "wal":
            for left in (restore, drill):
                left.clear_up(conf)
            print(json.dumps(archive.take_wal(conf)))
        case "check" | "verify":
            wrong = getattr(archive, wanted.verb)(conf)
            for line in wrong:
                jobs.complain(line)
            return 1 if wrong else 0
        case "drill":
            drill.drill(conf, wanted.source)
        case "drills":
            print("\n".join(drill.lines(conf)))
        case "reset":
            print(archive.reset(conf).name)
        case "list":
            listed(conf, wanted.json)
        case "fetch" if wanted.plan:
            print("\n".join(offsite.plan_lines(conf, wanted.to, wanted.snapshot)))
        case "fetch":
            with jobs.alone(conf, "restore"):  # which may be reading what the last one brought
                offsite.fetch(conf, wanted.to, wanted.snapshot)
        case "plan":
            print("\n".join(plan(offsite.fetched(conf) if wanted.fetched else conf, wanted.to, wanted.base).lines()))
        case "restore":
            where = offsite.fetched(conf) if wanted.fetched else conf
            found = json.dumps(restore.restore(where, wanted.to, wanted.into or restore.usual(conf), wanted.base, wanted.name), indent=1)
            print(found)
            if wanted.json:
                pathlib.Path(wanted.json).write_text(found + "\n", encoding="utf-8")
        case "exchange":
            print(restore.exchange(conf, wanted.directory, wanted.fetched, exact=wanted.exact, name=wanted.name))
            print(OF_THEN, file=sys.stderr)
        case "undo":
            print(restore.exchange_back(conf, wanted.directory, wanted.exact))
            print(OF_THEN, file=sys.stderr)
        case "discard":
            discard.discard(conf, wanted.directory)
        case "set-aside":
            kept.set_aside(conf, wanted.name, wanted.image)
        case "take-back":
            kept.take_back(conf, wanted.name, wanted.instead_of)
        case "server":
            getattr(database.service(conf), wanted.act)()
        case "where":
            kept_since = [path for path in restore.kept_aside(conf) if path.rpartition("-")[2] >= wanted.since]
            print(restore.where(conf, wanted.directory, kept_since[-1] if kept_since else ""))
        case "receive":
            archive.receive(conf)
        case "drop-slot":
            archive.drop_slot(conf)
        case "install":
            jobs.never(conf)
    return 0


def main(argv):
    wanted = parse(argv)
    home = pathlib.Path(__file__).resolve().parents[1]
    owner = pwd.getpwuid(home.stat().st_uid)
    if os.getuid() != owner.pw_uid:
        jobs.complain(f"run it as {owner.pw_name}: sudo -u {owner.pw_name} -i {__file__} {' '.join(argv)}")
        return 2
    os.umask(0o077)
    os.chdir(home)
    # Podman and systemctl ask for them, and neither sudo nor runuser sets them
    os.environ.update(HOME=str(home), **user_manager.addresses(owner.pw_uid))
    try:
        conf = settings.load(str(home))
        if wanted.archive:
            reads(wanted)
            conf = kept.of(conf, wanted.archive)
        return act(conf, wanted)
    except (jobs.PitrError, OSError) as failure:
        jobs.complain(f"{wanted.verb}: {failure}")
        return offsite.NOT_NOW if isinstance(failure, jobs.Unverified) and wanted.verb == "drill" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

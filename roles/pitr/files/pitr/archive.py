"""What keeps the archive going: base backups, WAL, and how far it is behind."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import time

from senex_host import user_manager
from senex_host.host_layout import RECEIVER, job_unit

from pitr import database, jobs, offsite, recovery, wal
from pitr.database import query
from pitr.jobs import PitrError, Unverified, say
from pitr.plan import LATEST, Plan, check_space, plan
from pitr.programs import (
    Base,
    barman,
    base,
    catalogue,
    condemn,
    damaged,
    gone,
    last_words,
    never_whole,
    run,
    systemctl,
    unfinished,
)
from pitr.settings import Settings

COMING = 60  # seconds that database and receiver have to be there again
RETRY = 900  # seconds until a first base backup that failed is tried again; each failure is told
SLOT = "barman"
LAG = f"""
select s.active, s.wal_status, pg_wal_lsn_diff(pg_current_wal_flush_lsn(), s.restart_lsn)::bigint, pg_walfile_name(pg_current_wal_flush_lsn()),
       (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint
from pg_replication_slots s where s.slot_name = '{SLOT}'
"""


def check_versions(settings: Settings) -> None:
    """The host's client programs are as new as the server, or newer."""
    server = int(query(settings, "show server_version_num")[0][0]) // 10000
    client = int(re.search(r"(\d+)", run("pg_basebackup", "--version").stdout)[1])
    if client < server:
        raise PitrError(f"pg_basebackup of this host is of PostgreSQL {client}, the server of {server}: install postgresql-client-{server} or newer")


def check_cluster(settings: Settings) -> None:
    """The archive belongs to the cluster that runs; another's WAL in it would spoil both."""
    running = query(settings, "IDENTIFY_SYSTEM", replication=True)[0][0]
    there = catalogue(settings)
    kept = str(base(settings, there[-1]).system_id) if there else running
    if kept != running:
        raise PitrError(
            f"{settings.barman_server} is the archive of cluster {kept}, and the database that runs is {running}: restore the archive's "
            "(playbooks/restore.yml -e restore_from=pitr), or move that directory away to begin a new archive"
        )


def receive(settings: Settings) -> None:
    """Become Barman's receiver. The look before is no step of the unit's start: a restore begins with an archive that is not the new cluster's."""
    check_cluster(settings)
    os.execvp("barman", ["barman", "--config", settings.barman, "receive-wal", settings.server])


def lag(settings: Settings) -> dict:
    """How far the archive is behind the database, in bytes."""
    rows = query(settings, LAG)
    if not rows:
        raise PitrError(f"replication slot {SLOT} does not exist: pitr-receive.service makes it, see its journal")
    active, status, held, newest, position = rows[0]  # `held` is nothing where the slot is lost, or was made just now
    received = _received(settings, newest, int(position))
    return {"active": active == "t", "wal_status": status, "slot_bytes": int(held or 0), "bytes": received}


def _received(settings: Settings, newest: str, position: int) -> int:
    """Bytes that the database has and the archive has not."""
    there = wal.segments(settings, int(newest[:8], 16))
    if not there:
        return position % wal.DEFAULT_SIZE
    current = there.get(position // wal.DEFAULT_SIZE)
    if current is None:
        return position - (max(there) + 1) * wal.DEFAULT_SIZE if position % wal.DEFAULT_SIZE else 0
    if not current.partial:
        return 0
    with open(current.path, "rb") as handle:
        written = len(handle.read().rstrip(b"\0"))
    # WAL may end in zeros of its own; a page is less than anybody waits for
    behind = position % wal.DEFAULT_SIZE - written
    return behind if behind > 8192 else 0


def take_wal(settings: Settings) -> dict:
    """File away what was received, and say how far behind the archive is."""
    with jobs.run(settings, "wal", wait=300) as record:
        try:
            on = _file_away(settings)
        except PitrError:
            on = _file_away(settings)  # the database may have gone just then, to come back
        errors = os.path.join(settings.barman_server, "errors")
        found = lag(settings)
        record |= {"bytes": found["bytes"], "what": f"{found['slot_bytes']} bytes of WAL kept for the archive by the database"}
        if found["wal_status"] == "lost":
            raise PitrError(
                "the database had to let go of WAL that the archive had not received (max_slot_wal_keep_size): run 'pitr reset', which begins anew "
                "with a base backup; moments between the last WAL and that backup cannot be restored"
            )
        if not found["active"]:
            raise PitrError(f"nothing receives WAL: see the journal of pitr-receive.service; {found['bytes']} bytes are missing in the archive")
        if found["bytes"] > settings.wal_max_lag:
            raise PitrError(f"the archive is {found['bytes']} bytes behind, more than pitr_wal_max_lag ({settings.wal_max_lag})")
        if os.path.isdir(errors) and os.listdir(errors):
            raise PitrError(f"Barman could not file {', '.join(sorted(os.listdir(errors))[:3])}: look into {errors}")
        clear_up(settings)
        begin_chain(settings, on)
    return found


def clear_up(settings: Settings) -> None:
    """A base backup that was killed is not the last good one, and may have filled the disk: it does not stay until the next. Barman is asked then alone."""
    names = wal.names_in(os.path.join(settings.barman_server, "base"))
    if not names or names[-1] == jobs.read(settings, "base").get("what"):
        return
    with contextlib.suppress(PitrError), jobs.alone(settings, "base"):  # somebody is taking one
        sweep(settings)


def sweep(settings: Settings) -> None:
    """Remove what failed or killed base backups left; under the lock, so nobody is at it."""
    _delete(settings, never_whole(settings))


def _delete(settings: Settings, names: list[str]) -> None:
    for name in names:
        done = barman(settings, "delete", settings.server, name, check=False)
        say(f"removed {name}, a base backup that is not whole" if done.returncode == 0 else f"{name} is not whole, and stays: {last_words(done.stderr, 1)}")


def _file_away(settings: Settings) -> dict | None:
    """A moment to restore to, and whole segments in their place. A receiver that is not there is told by whoever looks at the lag."""
    _receiver_trouble(settings, only_coming=True)
    on = mark(settings)
    if any(not name.endswith(".partial") for name in wal.names_in(os.path.join(settings.barman_server, "streaming"))):
        barman(settings, "archive-wal", settings.server)  # half a second of CPU, for which most minutes have no need
    return on


def mark(settings: Settings) -> dict | None:
    """A moment to restore to in the WAL, and on which timeline it is; nothing where another cluster runs than the archive is of."""
    now = datetime.datetime.now(datetime.UTC)
    query(settings, f"select pg_create_restore_point('{wal.MARK}{now.strftime('%Y-%m-%d %H:%M:%S.%f')}')")
    system, timeline = query(settings, "IDENTIFY_SYSTEM", replication=True)[0][:2]
    return wal.ran(settings, int(timeline), now.timestamp()) if system == identity(settings) else None


def identity(settings: Settings) -> str | None:
    """The cluster that the archive is of, as Barman has written it down."""
    try:
        with open(os.path.join(settings.barman_server, "identity.json"), encoding="utf-8") as handle:
            return str(json.load(handle)["systemid"])
    except (OSError, ValueError, KeyError):
        return None


def begin_chain(settings: Settings, on: dict | None = None) -> None:
    """Without a base backup no WAL can be restored: the first one of an archive, and of a timeline, is not left to its hour.

    `on`: the timeline that the database is on, and since when.
    """
    last = jobs.read(settings, "base")
    place = os.path.join(settings.barman_server, "base")
    # Written down by this version alone; the next base backup has it
    of_another = bool(on and last.get("timeline", on["timeline"]) != on["timeline"])
    missing = "" if of_another else gap(settings, last)
    if last.get("result") == "ok" and not of_another and not missing and os.path.isdir(place) and os.listdir(place):
        return
    tried = last.get("finished") if last.get("result") == "failed" else None
    if (tried and time.time() - jobs.moment(tried) < RETRY) or (not of_another and not missing and catalogue(settings)):
        return
    try:
        with jobs.alone(settings, "base"):
            pass
    except PitrError:
        return  # somebody is taking one
    systemctl("start", "--no-block", job_unit("base"))
    if of_another and time.time() - jobs.moment(on["since"]) > RETRY:
        raise PitrError(f"the database has been on timeline {on['timeline']} since {on['since']}, and there is no base backup of it: one was begun again")
    if missing:
        raise PitrError(f"WAL segment {missing} is missing in the archive: no later moment can be restored before the base backup that was begun now is there")


def take_base(settings: Settings, wait: float = 0) -> Base:
    """A base backup, verified; older ones go when the recovery window has passed them."""
    with jobs.run(settings, "base", wait) as record:
        before = jobs.read(settings, "base")
        record |= {name: before[name] for name in ("timeline", "good", "begin_wal") if name in before}  # of the last good one, whatever becomes of this
        check_versions(settings)
        check_cluster(settings)
        sweep(settings)
        spoilt = spoilt_since(settings)
        begins = not catalogue(settings) or bool(gap(settings, before))
        size = int(query(settings, "select sum(pg_database_size(oid)) from pg_database where datallowconn")[0][0])
        check_space(settings.archive, int(size * 1.2), "a base backup")
        if trouble := _receiver_trouble(settings, only_coming=False):
            raise trouble
        _first_wal(settings)
        try:
            barman(settings, "backup", "--immediate-checkpoint", settings.server)
        except PitrError:
            with contextlib.suppress(PitrError):  # the reason is the first one
                sweep(settings)
            raise
        _last_wal(settings)
        newest = base(settings, catalogue(settings)[-1])
        record |= {"bytes": newest.bytes, "what": newest.name}
        try:
            recovery.verify_base(settings, Plan(None, newest, []))
        except Unverified:
            raise
        except PitrError:
            condemn(settings, newest.name)
            raise
        begins = begins or before.get("timeline") != newest.timeline
        record |= {"timeline": newest.timeline, "good": newest.name, "begin_wal": newest.begin_wal}
        for name in gone(settings):
            condemn(settings, name)  # Barman deletes what has a directory
        _delete(settings, damaged(settings))
        # Beside what else it does, it removes what no moment of the window needs
        barman(settings, "cron")
        if begins and offsite.sends(settings):
            # WAL that has gone off the host is worth nothing there without it; how it goes its own status says
            systemctl("start", "--no-block", job_unit("offsite"), check=False)
        if spoilt:
            raise PitrError(f"{spoilt}. Base backup {newest.name} was taken, and needs none of it; moments from that segment on until then cannot be restored")
    return newest


def spoilt_since(settings: Settings) -> str:
    """What is damaged in the WAL since the newest base backup: each has its look before the next makes it the way to old moments alone.

    Where no base backup is, or a segment is missing, the job that files WAL away has told so.
    """
    try:
        newest = plan(settings, LATEST)
    except PitrError:
        return ""
    try:
        for segment in newest.chain:
            if not segment.partial:  # that one is being written
                wal.examined(segment, newest.base)
    except PitrError as failure:
        return str(failure)
    return ""


def gap(settings: Settings, last: dict) -> str:
    """The first segment that is missing in the WAL since the last good base backup."""
    # Of a version that did not write it down, or of the archive that had this one's place before
    if "begin_wal" not in last or not os.path.isdir(os.path.join(settings.barman_server, "base", last["good"])):
        return ""
    missing: set[int] = set()
    for attempt in range(2):  # one may be on its way from one directory to another just now
        first, there = wal.number(last["begin_wal"]), wal.segments(settings, last["timeline"])
        now = set(range(first, max(there, default=first) + 1)) - set(there)
        missing = missing & now if attempt else now
        if not missing:
            return ""
    return wal.name_of(last["timeline"], min(missing))


def first_base(settings: Settings, wait: float = 0) -> str:
    """The name of the newest base backup. One is taken where there is none of the timeline that runs, nor comes from somebody who is at it."""
    with jobs.alone(settings, "base", wait):
        found = catalogue(settings)
        there = bool(found) and base(settings, found[-1]).timeline == wal.running_timeline(settings)
    return (found[-1] if there else take_base(settings, wait)).name


def _receiver_trouble(settings: Settings, only_coming: bool) -> PitrError | None:
    """Why nothing receives WAL, after a minute for what is on its way: after a boot, an upgrade or a restart the database is there before its receiver.

    `only_coming`: where a unit rests, nothing is waited for.
    """
    end = time.monotonic() + COMING
    while True:
        try:
            if lag(settings)["active"]:
                return None
            trouble = PitrError("nothing receives WAL: see the journal of pitr-receive.service")
        except PitrError as failure:
            trouble = failure
        if time.monotonic() > end or (only_coming and not _coming(settings)):
            return trouble
        time.sleep(0.5)


def _coming(settings: Settings) -> bool:
    """Whether the units of database and receiver run, or will in a moment."""
    shown = systemctl("show", "--property=ActiveState,Job", settings.unit, RECEIVER).stdout
    units = user_manager.properties(shown)
    return all(unit.get("ActiveState") in ("active", "activating", "reloading") or unit.get("Job", "") not in ("", "0") for unit in units)


def _first_wal(settings: Settings) -> None:
    """Barman takes no base backup before it has filed a segment."""
    timeline = int(query(settings, "select pg_walfile_name(pg_current_wal_lsn())")[0][0][:8], 16)
    filed = os.path.join(settings.barman_server, "wals") + os.sep

    def there(where: str) -> bool:
        return any(not segment.partial and segment.path.startswith(where) for segment in wal.segments(settings, timeline).values())

    if there(filed):
        return
    if not there(settings.barman_server):
        query(settings, "select pg_switch_wal() from pg_create_restore_point('pitr')")
    end = time.monotonic() + 60
    while not there(filed):
        if time.monotonic() > end:
            raise PitrError("the first WAL segment did not arrive: see the journal of pitr-receive.service")
        barman(settings, "archive-wal", settings.server)  # does nothing while the timer's own is at it
        time.sleep(0.2)


def _last_wal(settings: Settings) -> None:
    """A base backup counts when the segment of its end is filed. From PostgreSQL 17 on that one may be empty, and would last until it is full."""
    waiting = unfinished(settings)
    if not waiting:
        return
    query(settings, "select pg_switch_wal() from pg_create_restore_point('pitr')")
    end = time.monotonic() + 120
    while waiting := unfinished(settings):
        if time.monotonic() > end:
            raise PitrError(f"the last WAL segment of base backup {waiting[-1]} did not arrive: see the journal of pitr-receive.service")
        time.sleep(0.2)
        barman(settings, "archive-wal", settings.server)  # does nothing while the timer's own is at it
        for name in waiting:
            barman(settings, "check-backup", settings.server, name, check=False)


def drop_slot(settings: Settings) -> None:
    """The database keeps what a slot has not received, for ever or until its disk is full."""
    systemctl("stop", RECEIVER)
    database.service(settings).drop_slot(SLOT)


def reset(settings: Settings) -> Base:
    """Begin anew after WAL was lost: a new slot, and a base backup that needs nothing from before."""
    with jobs.alone(settings, "reset"):  # each would stop the receiver that the other has just started
        try:
            drop_slot(settings)
            wal.leave_timeline(settings)
        finally:  # however that ended: a slot that nobody reads keeps all WAL
            systemctl("start", RECEIVER)
        say("a new slot is there")
        return take_base(settings, jobs.PATIENCE)


def check(settings: Settings) -> list[str]:
    """What is wrong with the archive; nothing when all is well."""
    wrong = []
    for attempt in (check_versions, check_cluster, _check_damaged, _check_gone, _check_barman, _check_chain):
        try:
            attempt(settings)
        except PitrError as failure:
            wrong.append(str(failure))
    return wrong


def _check_damaged(settings: Settings) -> None:
    if names := damaged(settings):
        raise PitrError(f"base backup {', '.join(names)} was damaged when it was taken, and is passed over: 'pitr base' takes another, and removes it")


def _check_gone(settings: Settings) -> None:
    if names := gone(settings):
        raise PitrError(
            f"base backup {', '.join(names)} is in the catalogue, and its files in {settings.barman_server}/base are gone: it is passed over; "
            "put them back, or let 'pitr base' take another, which removes it from the catalogue"
        )


def _check_barman(settings: Settings) -> None:
    done = barman(settings, "check", settings.server, check=False)
    failed = [" ".join(line.split()) for line in done.stdout.splitlines() if "FAILED" in line]
    if failed:
        raise PitrError(f"barman check: {'; '.join(failed)}")


def _check_chain(settings: Settings) -> None:
    """The newest moment can be restored: from a base backup of the timeline that runs, by WAL without a gap."""
    newest = plan(settings, LATEST)
    for segment in newest.chain:
        wal.examined(segment, newest.base)


def verify(settings: Settings) -> list[str]:
    """Read the whole archive: every base backup against its manifest, every segment from the oldest on. What is damaged, by name."""
    wrong, seen = [], set()
    for listed in catalogue(settings):
        try:
            found = base(settings, listed)
            recovery.verify_base(settings, Plan(None, found, []))
            chain = wal.needed(settings, found, None)
        except PitrError as failure:
            wrong.append(str(failure))
            continue
        for segment in chain:
            if segment.path not in seen:
                seen.add(segment.path)
                try:
                    wal.examined(segment, found)
                except PitrError as failure:
                    wrong.append(str(failure))
    return wrong

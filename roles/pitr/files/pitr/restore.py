"""The restore itself: a proven copy beside the data in production, then the exchange of the two."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator

from senex_host import files
from senex_host.host_layout import RECEIVER

from pitr import archive, checks, database, jobs, offsite, recovery, removal, wal
from pitr.jobs import PitrError, alone, say
from pitr.plan import Plan, no_room, plan
from pitr.postgresql import sequences
from pitr.programs import FETCHED, in_image, last_words, podman, run, systemctl
from pitr.settings import Settings

CONTAINER = "pitr-restore"
STARTED = "{}, and somebody has started that since: what it wrote then is not in the copy. Nothing was exchanged; make it again, and start nothing meanwhile"
QUADLETS = ".config/containers/systemd"  # below the home; role postgresql writes its own there


def usual(settings: Settings) -> str:
    """Where a restore goes when nobody says where. Nothing but restores uses it."""
    return f"{settings.data}.restored"


def restore(settings: Settings, to: str, directory: str, base: str | None = None, name: str = "") -> dict:
    """A copy of the database as it was at a moment, in a directory of its own. What runs is not touched.

    `name`: of the operation that the copy is made for; without it, nobody but this one is put in place by that operation, and this one by no other.
    """
    directory = removal.named(settings, directory)
    stopped_for = ""
    with alone(settings, "restore"):
        began = time.monotonic()
        podman("rm", "--force", "--time=10", CONTAINER, check=False)  # of a restore that was killed, like its directory
        removal.new_copy(settings, directory)
        if directory == usual(settings):
            exchangeable(settings)
            if users := removal.working_on(directory):
                raise PitrError(f"{directory}: {', '.join(users)} works on the copy that is there; stop it first (podman stop), or name another with --into")
            removal.remove(settings, directory, recovery.wal_of(directory))
        for there in (directory, recovery.wal_of(directory)):
            if os.path.lexists(there):
                raise PitrError(f"--into {directory}: {there} is there already; name a new directory beside {settings.data}")
        wanted = plan(settings, to, base)
        # An operation stops the database before the latest of this host's own archive; by now it may have been started, so it is not asked
        rests = bool(name) and wanted.until is None and not settings.archive.endswith(FETCHED)
        for line in wanted.lines():
            say(line)
        try:
            reading = recovery.fill(settings, wanted, directory)
            filled = time.monotonic()
            say(f"archive:      whole; {reading.commits} transactions, the last wanted one of {reading.last_wanted or 'before the backup ended'}")
            with recovery.server(settings, wanted, reading, directory, CONTAINER, durable=True) as server:
                recovered = time.monotonic()
                timeline = int(server.sql("select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)", "postgres")[0], 16)
                if timeline in wal.known_timelines(settings):
                    raise PitrError(f"the copy would go on in timeline {timeline}, which the archive has already, without {timeline:08X}.history")
                if wanted.until is None and wanted.base.timeline == wal.running_timeline(settings):
                    stopped_for = complete(settings, wanted, server, timeline, reading, rests)
                found = checks.verify(server, settings.drill_columns)
                log = server.log()
            stopped = re.search(r"recovery stopping (?:before|after|at) (.*)", log)
            if wanted.until and not stopped:
                raise PitrError(f"recovery ended and did not say that it reached {wanted.until_text} UTC")
        except BaseException:
            for left in (directory, recovery.wal_of(directory)):
                with contextlib.suppress(PitrError):  # the reason is the first one; the next restore removes both
                    removal.remove(settings, left)
            raise
        removal.remove(settings, recovery.wal_of(directory))
        done = time.monotonic()
        copy = {"name": name or f"by-hand-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}", "base": wanted.base.name, "to": to}
        known = {"operation": bool(name), "last": reading.last_wanted, "stopped": stopped_for}
        removal.note(directory, {"proven": jobs.iso(time.time()), **copy, **known})
        return {
            "directory": directory,
            "name": copy["name"],
            "base": wanted.base.name,
            "timeline": timeline,
            "to": wanted.until_text and wanted.until_text + " UTC",
            "last_transaction": reading.last_wanted,
            "stopped": stopped[1] if stopped else "end of the archive",
            **found,
            "seconds": {"copy": round(filled - began, 1), "recover": round(recovered - filled, 1), "verify": round(done - recovered, 1)},
        }


def clear_up(settings: Settings) -> None:
    """A restore that was killed leaves a copy at its full size, and perhaps a server on it. One that ended has removed the WAL beside the copy."""
    directory = usual(settings)
    if os.path.lexists(recovery.wal_of(directory)):
        jobs.left(settings, "restore", lambda: (podman("rm", "--force", "--time=10", CONTAINER, check=False),
                                                removal.remove(settings, directory, recovery.wal_of(directory))))  # fmt: skip


def complete(settings: Settings, wanted: Plan, server: recovery.Server, timeline: int, reading: wal.Reading, rests: bool = False) -> str:
    """A copy of the latest has all that the stopped database had: the receiver may have been away, or the end of the server hurried.

    Where that one was stopped; nothing where it runs, and goes on writing what the copy has not. `rests`: it was stopped for the copy.
    """
    if rests and database.service(settings).is_running():
        raise PitrError(STARTED.format("The copy has all that the database had when it was stopped"))
    stopped, in_order = stopped_at(settings, wanted.base.system_id)
    history = server.sql(f"select pg_read_file('pg_wal/{timeline:08X}.history')", "postgres")
    ended = [found[1] for line in history[0].split("\n") if (found := re.match(r"\d+\t([0-9A-F]+/[0-9A-F]+)", line))]
    if stopped and ended and position(ended[-1]) <= position(stopped):
        how = "was stopped at" if in_order else "was killed later than"
        raise PitrError(
            f"the archive ends at {ended[-1]}, and the database {how} {stopped}: {position(stopped) - position(ended[-1])} bytes of WAL are missing "
            f"in it; restore_to='{reading.end}+00' takes what there is"
        )
    if stopped and not in_order:
        say(f"The database that is to be replaced did not end in order: what it wrote after {reading.end} UTC, if anything, is in its own directory alone")
    return stopped or ""


def position(lsn: str) -> int:
    """A place in the WAL as a number."""
    high, _, low = lsn.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def control(settings: Settings, directory: str) -> dict[str, str]:
    """What pg_controldata of the image says of a data directory; nothing where there is no cluster."""
    done = run(*in_image(settings, ["pg_controldata", "/data"], [f"{directory}:/data:ro"], user=settings.container_uid), check=False)
    return dict(re.findall(r"(?m)^([^:]+):\s+(.*)$", done.stdout))


def identity(settings: Settings, directory: str) -> str:
    """The system identifier of the cluster in a directory; nothing where there is none."""
    return control(settings, directory).get("Database system identifier", "") if os.path.isdir(directory) else ""


def tell(settings: Settings, cluster: str) -> None:
    """Which cluster is the one in production now. Role postgresql refuses to lay out another, or none, where nobody has told."""
    place = os.path.join(settings.home, "config/postgresql")
    if cluster and os.path.isdir(place):
        files.replace(os.path.join(place, "cluster"), f"{cluster}\n", mode=0o644)


def stopped_at(settings: Settings, system: int) -> tuple[str | None, bool]:
    """The last checkpoint of the server in production, and whether it ended with that in order; nothing where it runs, or is another cluster."""
    if database.service(settings).is_running():
        return None, False
    said = control(settings, settings.data)
    if said.get("Database system identifier") != str(system):
        return None, False
    return said.get("Latest checkpoint location"), said.get("Database cluster state") == "shut down"


def proven(directory: str, name: str = "") -> str:
    """Of which moment a copy is, from where, and whose. Raise a PitrError unless it is a proven one, and the one that is meant.

    All restores make their copy in the same place, so what one operation has shown to a person may be another's copy by now.
    """
    noted = removal.noted(directory) or {}
    if not noted.get("proven"):
        raise PitrError(f"{directory} is no copy that 'pitr restore' has made and proven, or it is in use already: it does not become the data")
    last = f", whose last transaction is of {noted['last']} UTC" if noted.get("last") else ""
    whose, about = str(noted.get("name") or "unknown"), f"as of {noted.get('to')}{last}, of base backup {noted.get('base')}, proven at {noted['proven']}"
    if name and whose != name:
        raise PitrError(f"{directory} holds the copy {whose} ({about}), which somebody has made in the place of {name}: it does not become the data")
    if noted.get("operation") and not name:
        raise PitrError(f"{directory} was prepared by the operation {whose} ({about}): run that playbook again, or put it in place by hand with --name {whose}")
    return f"the copy {whose}, {about}"


def exchange(settings: Settings, directory: str, fetched: bool = False, undone: str = "", kept: bool = False, exact: bool = False, name: str = "") -> str:
    """Put a restored copy in the place of the data; the old data's new place. A fetched archive, or that of `undone`, goes with its data.

    `kept`: the directory is data that a restore kept aside, and need not be proven. `exact`: sequences are what they were at its moment. `name`: see `proven`.
    """
    directory = removal.named(settings, directory)
    if os.path.dirname(directory) != os.path.dirname(settings.data):
        raise PitrError(f"{directory}: must lie beside {settings.data}, so that the exchange is a rename")
    if not os.path.isdir(directory):
        raise PitrError(f"{directory}: is not there; 'pitr restore' makes it")
    ran, comes = (_major(found) for found in (settings.data, directory))
    if ran and comes != ran:
        raise PitrError(f"{directory} is of PostgreSQL {comes}, and {ran} runs here: playbooks/upgrade_postgresql.yml leads from one version to another")
    exchangeable(settings)
    # What is at work in the archive has its end first
    with alone(settings, "restore"), alone(settings, "base", jobs.PATIENCE), alone(settings, "wal", jobs.PATIENCE), jobs.undisturbed():
        # Now that nobody else makes a copy there
        what = "the data that was kept aside" if kept else proven(directory, name)
        unused(directory)
        still_stopped(settings, directory)
        jobs.tell(f"comes into the place of the data: {what}")
        was, becomes = (identity(settings, found) for found in (settings.data, directory))
        before = {} if exact else handed_out(settings)
        if before and served(settings, name):
            raise_beside(settings, directory, before)
            before = handed_out(settings)  # of what goes on being handed out; the margin is for the seconds until the last session ends
        server = database.service(settings)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        aside = f"{settings.data}.before-restore-{stamp}" if os.path.exists(settings.data) else ""
        with placed(settings, directory, aside):
            systemctl("stop", RECEIVER)
        try:
            server.swap_data(settings.data, directory, aside)
            tell(settings, becomes)
            if fetched:
                offsite.put_in_place(settings, stamp)
            if undone:
                offsite.put_back(settings, undone, stamp)
            wal.leave_timeline(settings)
            server.start()
        except (PitrError, OSError) as error:
            with contextlib.suppress(OSError):
                tell(settings, was)
            told = [str(error), _as_it_was(settings, directory, aside, stamp if fetched or undone else "", undone), no_room(os.path.dirname(settings.data))]
            raise PitrError(". ".join(filter(None, told))) from error
        # Not before: a copy that goes back has its mark, and the next restore removes it. What is kept aside never goes by one that was left here
        with contextlib.suppress(PitrError):  # nothing removes the data, whatever it bears
            removal.clear(settings, settings.data)
            if aside:
                removal.clear(settings, aside)
        done = podman("exec", settings.container, "sh", recovery.ROLES, check=False)
        if done.returncode:
            jobs.complain(f"the roles of this data are not those of now: {last_words(done.stderr)}; run site.yml")
        raise_sequences(settings, before)
        with placed(settings, directory, aside):
            systemctl("start", RECEIVER)
        with contextlib.suppress(PitrError):  # the next look at the archive writes it down as well
            archive.mark(settings)
    return aside


def unused(directory: str) -> None:
    """Nobody has a server on what is to become the data: two servers on one directory write over one another, and neither sees the other."""
    if users := removal.working_on(directory):
        raise PitrError(
            f"{directory}: {', '.join(users)} works on it, and it does not become the data meanwhile; stop it first (podman stop). Nothing was changed"
        )


def still_stopped(settings: Settings, directory: str) -> None:
    """A copy of the latest, made while the database was stopped, has all of it for as long as nobody starts it: a web instance does that, for it needs it."""
    ended = (removal.noted(directory) or {}).get("stopped")
    if not ended:
        return
    if database.service(settings).is_running() or control(settings, settings.data).get("Latest checkpoint location") not in (None, ended):
        raise PitrError(STARTED.format(f"{directory} has all that the database had when it was stopped"))


def handed_out(settings: Settings) -> dict[str, int]:
    """Where the sequences stand; nothing where the database does not run: then it is lost, or all of it is in the archive."""
    return sequences.held(database.asked(settings, sequences.HELD) or [])


SESSIONS = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid();"


def served(settings: Settings, name: str) -> bool:
    """Whether clients may go on while the data is exchanged. An operation stops the application first, and gives the name of its copy; a person may too."""
    return not name or database.asked(settings, SESSIONS) != [["0"]]


def raise_beside(settings: Settings, directory: str, before: dict[str, int]) -> None:
    """The same as `raise_sequences`, before the data serves: its clients are back in the second in which it starts."""
    try:
        with recovery.beside(settings, directory, CONTAINER) as server:
            numbers = sequences.raised(before, sequences.held(server.rows(sequences.HELD)), served=True)
            if numbers:
                server.rows(sequences.script(numbers))
    except PitrError as error:
        raise PitrError(
            f"{error}. The sequences of {directory} were not raised, and nothing was exchanged; --exact exchanges with sequences as they were then"
        ) from error


def raise_sequences(settings: Settings, before: dict[str, int]) -> None:
    """Numbers that were handed out since are not handed out again: what is outside of the database may know rows by them."""
    if not before:
        return
    restored = database.asked(settings, sequences.HELD)
    numbers = sequences.raised(before, sequences.held(restored or []))
    if restored is None or (numbers and database.asked(settings, sequences.script(numbers)) is None):
        jobs.complain("sequences are as restored, and numbers will be handed out again: the database did not take others")


def exchangeable(settings: Settings) -> None:
    """The data is where PostgreSQL has it, and can be renamed; found before anything is stopped, and before a copy is made."""
    if os.path.ismount(settings.data):
        raise PitrError(f"{settings.data} is a mount point, which cannot be renamed: mount a directory above it; docs/user/host.md says where a disk goes")
    try:
        with open(os.path.join(settings.home, QUADLETS, f"{settings.unit.removesuffix('.service')}.container"), encoding="utf-8") as unit:
            used = re.search(r"(?m)^Volume=([^:\n]+):/var/lib/postgresql(?:/data)?(?::\S*)?$", unit.read())
    except OSError:
        return  # by another unit, or none
    if used and os.path.realpath(used[1]) != os.path.realpath(settings.data):
        raise PitrError(f"PostgreSQL has its data in {used[1]}, and postgresql_data_directory is {settings.data}: nothing that is restored there would be used")


@contextlib.contextmanager
def placed(settings: Settings, directory: str, aside: str) -> Iterator[None]:
    """Around a step of an exchange: what goes wrong in it is told with where the data is then."""
    try:
        yield
    except PitrError as error:
        raise PitrError(f"{error}. {where(settings, directory, aside)}") from error


def where(settings: Settings, directory: str, aside: str = "") -> str:
    """Which data is in place, where the other lies, and what leads on: by what is on the disk, for an exchange may have ended between its renames."""
    there, kept, waits = (bool(path) and os.path.isdir(path) for path in (settings.data, aside, directory))
    if there and waits:
        said = f"In place ({settings.data}) is the data from before; what was to take its place lies in {directory}, and can be tried again"
    elif there:
        former = f"the data from before lies in {aside}: senex pitr undo {aside} puts it back" if kept else "there was no data before"
        said = f"In place ({settings.data}) is what was to be put there; {former}"
    else:
        former = f"the data from before lies in {aside}: senex pitr undo {aside} puts it back" if kept else "there was none before"
        said = f"Nothing is in place ({settings.data}); {former}" + f". What was to take its place lies in {directory}" * waits
    return said + manager(settings)


def manager(settings: Settings) -> str:
    """That the user's own systemd is gone, with every container; nothing where it answers."""
    if systemctl("show", "--property=Version", check=False).returncode == 0:
        return ""
    uid = os.stat(settings.home).st_uid
    return (
        f". The user manager does not answer, and no container runs: as root, systemctl start user@{uid}.service, which starts PostgreSQL on what is in place"
    )


def _as_it_was(settings: Settings, directory: str, aside: str, archived: str, undone: str) -> str:
    """The way back from an exchange that failed; what is where then."""
    server = database.service(settings)
    server.stop(check=False)
    try:
        if os.path.exists(settings.data) and not os.path.exists(directory):
            jobs.renamed(settings.data, directory)
        if archived:
            offsite.put_back(settings, archived, undone or f"{archived}-failed")
        if not aside:
            return f"There was no data before; the copy lies in {directory}"
        if not os.path.exists(settings.data):
            jobs.renamed(aside, settings.data)
        server.start()
        systemctl("start", RECEIVER)
    except (PitrError, OSError) as error:
        # PostgreSQL is tried again and again; nobody else starts what receives its WAL, and the slot would keep all of it
        systemctl("start", "--no-block", RECEIVER, check=False)
        return f"The way back failed too: {error}. {where(settings, directory, aside)}"
    return f"The data is what it was, and PostgreSQL runs on it; the copy lies in {directory}"


def _major(directory: str) -> str:
    """Which version wrote a data directory; nothing where none did, or something else is in the file."""
    found = re.fullmatch(r"(\d{1,4})\n?", removal.read(os.path.join(directory, "PG_VERSION")) or "")
    return found[1] if found else ""


def exchange_back(settings: Settings, aside: str, exact: bool = False) -> str:
    """The way back: the data that a restore kept aside takes its old place."""
    aside = removal.named(settings, aside)
    if aside not in kept_aside(settings):
        raise PitrError(f"{aside}: is no data that a restore kept aside; there is: {', '.join(kept_aside(settings)) or 'none'}")
    return exchange(settings, aside, undone=aside.rpartition("-")[2], kept=True, exact=exact)


def kept_aside(settings: Settings) -> list[str]:
    """Data directories that restores kept."""
    place, name = os.path.split(settings.data)
    return sorted(os.path.join(place, entry) for entry in os.listdir(place) if entry.startswith(f"{name}.before-restore-"))

"""What the program of point-in-time recovery removes: what it made itself, and nothing that is, holds or lies in anybody's data."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import types

import pytest
from test_input_checks import refusal

FILES = pathlib.Path(__file__).parents[2] / "roles/pitr/files"
sys.path.insert(0, str(FILES))

from pitr import drill, recovery, removal, restore  # noqa: E402  (the path above must come first)
from pitr.jobs import PitrError  # noqa: E402
from pitr.settings import Settings  # noqa: E402


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A home with data in it; podman unshare does what it is told."""
    names = ("unit", "container", "image", "database", "superuser", "owner", "archive_role")
    numbers = ("container_uid", "base_max_age", "wal_max_age", "wal_max_lag", "drill_max_age", "recovery_timeout")
    home = tmp_path / "home"
    places = {"data": "data/postgres", "sockets": "run/postgresql", "archive": "backups/barman", "status": "backups/status", "drill_directory": "backups/drill"}
    found = Settings(home=str(home), **{**dict.fromkeys(names, "x"), "unit": "postgres.service", "container": "postgres"}, **dict.fromkeys(numbers, 1),
                     server="main", drill_columns=[],
                     **{name: f"{home}/{path}" for name, path in places.items()})  # fmt: skip
    for path in ("data/postgres", "data/redis", "data/media", "backups/postgresql", "backups/barman/main/base", "backups/status", "run/postgresql", "config"):
        (home / path).mkdir(parents=True)
        (home / path / "canary").touch()

    def run(*words, check=True, stdin=None, **_):
        if words[:2] == ("podman", "exec"):  # the roles of restored data, and its sequences
            return subprocess.CompletedProcess(words, 0, "", "")
        if words[:2] == ("podman", "ps"):
            return subprocess.CompletedProcess(words, 0, "", "")
        assert words[:2] == ("podman", "unshare"), words
        return subprocess.run(words[2:], capture_output=True, text=True, input=stdin or "", check=check)

    for module in (removal, restore.database, sys.modules["pitr.programs"]):
        monkeypatch.setattr(module, "run", run)
    return found


def refused(**inputs):
    return refusal("pitr", group_names=["postgresql"], **inputs)


def canaries(conf):
    return sorted(str(path.relative_to(conf.home)) for path in pathlib.Path(conf.home).rglob("canary"))


def other(conf, **fields):
    return Settings(**{**{name: getattr(conf, name) for name in Settings.__dataclass_fields__}, **fields})


@pytest.mark.parametrize("text", ["", ".", "data", "data/..", "backups", "backups/barman", "data/postgres/x", "..", "linked"])
def test_a_drill_removes_nothing_wherever_it_is_told_to_work(conf, monkeypatch, text):
    """Its directory used to be its own `data`: that of the home where the input was empty."""
    (pathlib.Path(conf.home) / "linked").symlink_to(f"{conf.home}/data")
    before = canaries(conf)
    monkeypatch.setattr(drill, "plan", lambda *_: (_ for _ in ()).throw(PitrError("no base backup")))
    with pytest.raises(PitrError):
        drill.drill(other(conf, drill_directory=os.path.join(conf.home, text)))
    assert canaries(conf) == before
    assert not list(pathlib.Path(conf.home).rglob(drill.ROOT)), "what it made itself is gone"


@pytest.mark.parametrize(
    "name", ["data", "data/postgres", "data/postgres/base", "backups", "backups/barman/main", "backups/postgresql", "config", "", "../home"]
)
def test_even_with_a_mark_nobodys_data_is_removed(conf, name):
    directory = pathlib.Path(conf.home) / name
    directory.mkdir(exist_ok=True)
    (directory / removal.MARK).touch()
    with pytest.raises(PitrError, match="it is not removed"):
        removal.remove(conf, str(directory))
    assert len(canaries(conf)) == 8


def test_what_it_did_not_make_stays(conf):
    directory = pathlib.Path(conf.home) / "data/postgres.restored"
    directory.mkdir()
    (directory / "of-somebody").touch()
    with pytest.raises(PitrError, match="was not made by this program"):
        removal.remove(conf, str(directory))
    with pytest.raises(PitrError, match="was not made by this program"):
        removal.begin(conf, str(directory))
    assert (directory / "of-somebody").exists()


def test_what_it_made_goes_and_what_a_kill_left(conf):
    place = f"{conf.home}/data/postgres.restored"
    removal.begin(conf, f"{place}.wal")
    pathlib.Path(place, "base").mkdir(parents=True)  # killed while it was filled: the mark is beside it
    removal.remove(conf, place, f"{place}.wal")
    os.mkdir(place)  # killed before there was a mark
    removal.begin(conf, place)
    pathlib.Path(place, "x").touch()
    removal.begin(conf, place)
    assert os.listdir(place) == [removal.MARK]
    removal.remove(conf, place, f"{place}.wal", f"{conf.home}/never-was")
    assert not os.path.exists(place) and len(canaries(conf)) == 8


def test_a_directory_beside_a_copy_that_was_there_before_stays(conf, monkeypatch):
    """What `--into X` calls X.wal may be somebody's, and used to go at the end of a restore that was refused."""
    monkeypatch.setattr(restore, "podman", lambda *_, **__: None)
    pathlib.Path(conf.home, "data/postgres.x.wal").mkdir()
    pathlib.Path(conf.home, "data/postgres.x.wal/mine").touch()
    for typed in (f"{conf.home}/data/postgres.x", "postgres.x"):
        with pytest.raises(PitrError, match="data/postgres.x.wal is there already"):
            restore.restore(conf, "latest", typed)
    assert os.path.exists(f"{conf.home}/data/postgres.x.wal/mine")


@pytest.mark.parametrize(
    "into", ["/root/x", "/", "rows", "../rows", "../postgres.rows", "postgres", "redis", "postgres/base", "postgres.new/deeper", "../backups/x"]
)
def test_a_copy_is_made_where_it_can_be_put_in_place_and_removed_again(conf, monkeypatch, into):
    """One that was made elsewhere was as large as the database, and no command took it away."""
    monkeypatch.setattr(restore, "podman", lambda *_, **__: None)
    before = sorted(path for path in pathlib.Path(conf.home).rglob("*"))
    with pytest.raises(PitrError, match=r"--into \S+: a copy lies beside the data, under its name and one of yours, such as \S+/data/postgres.rows"):
        restore.restore(conf, "latest", into)
    assert sorted(path for path in pathlib.Path(conf.home).rglob("*") if ".lock" not in path.name) == before


@pytest.mark.parametrize("mark", [None, "{}", '{"proven": null}', "no json"])
def test_a_copy_that_is_not_proven_does_not_become_the_data(conf, monkeypatch, mark):
    """A restore that was killed leaves one, with a server on it perhaps; one that has been in use has no mark any more."""
    copy = pathlib.Path(conf.home) / "data/postgres.restored"
    copy.mkdir()
    if mark:
        (copy / removal.MARK).write_text(mark, encoding="utf-8")
    monkeypatch.setattr(restore, "_major", lambda _directory: "15")
    monkeypatch.setattr(restore, "systemctl", lambda *_: pytest.fail("nothing may be stopped"))
    monkeypatch.setattr(restore.database, "systemctl", lambda *_: pytest.fail("nothing may be stopped"))
    with pytest.raises(PitrError, match="no copy that 'pitr restore' has made and proven"):
        restore.exchange(conf, str(copy))
    assert "data/postgres/canary" in canaries(conf)


def test_a_proven_copy_becomes_the_data_and_bears_no_mark_there(conf, monkeypatch):
    copy = removal.begin(conf, f"{conf.home}/data/postgres.restored")
    removal.note(copy, {"proven": "2026-11-28T12:00:00Z"})
    told = []
    monkeypatch.setattr(restore, "_major", lambda _directory: "15")
    monkeypatch.setattr(restore, "systemctl", lambda *words, **_: told.append((words[0], os.path.exists(f"{conf.data}/{removal.MARK}"))))
    monkeypatch.setattr(restore.database, "systemctl", lambda *words, **_: told.append((words[0], os.path.exists(f"{conf.data}/{removal.MARK}"))))
    monkeypatch.setattr(restore.archive, "mark", lambda _settings: None)
    aside = restore.exchange(conf, copy)
    assert os.path.exists(f"{aside}/canary") and told[-1] == ("start", False)
    with pytest.raises(PitrError, match="its old place|no copy"):
        restore.exchange(conf, aside)


@pytest.fixture
def copy(conf, monkeypatch):
    """A proven copy, and what systemd was told."""
    found = removal.begin(conf, f"{conf.home}/data/postgres.restored")
    removal.note(found, {"proven": "2026-11-28T12:00:00Z"})
    (pathlib.Path(found) / "copied").touch()
    monkeypatch.setattr(restore, "_major", lambda _directory: "15")
    monkeypatch.setattr(restore.archive, "mark", lambda _settings: None)
    return found


@pytest.mark.parametrize("where", ["put_in_place", "leave_timeline", "start"])
def test_an_exchange_that_fails_is_taken_back(conf, monkeypatch, copy, where):
    """A full disk between the renames, an archive that is not there, a server that does not start on the copy."""
    told = []

    def failing(*_words):
        raise OSError("no space left")

    def systemctl(*words, check=True):
        told.append(words)
        if where == "start" and words == ("start", "postgres.service") and os.path.exists(f"{conf.data}/copied"):
            raise PitrError("it does not start")

    monkeypatch.setattr(restore, "systemctl", systemctl)
    monkeypatch.setattr(restore.database, "systemctl", systemctl)
    if where != "start":
        monkeypatch.setattr({"put_in_place": restore.offsite, "leave_timeline": restore.wal}[where], where, failing)
    with pytest.raises(PitrError, match="(no space left|does not start).*The data is what it was, and PostgreSQL runs on it; the copy lies in"):
        restore.exchange(conf, copy, fetched=where == "put_in_place")
    assert os.path.exists(f"{conf.data}/canary") and os.path.exists(f"{copy}/copied") and not restore.kept_aside(conf)
    assert told[-2:] == [("start", "postgres.service"), ("start", "pitr-receive.service")]
    removal.remove(conf, copy)  # as the next restore does, which was refused: the copy had lost its mark
    assert not os.path.exists(copy) and os.path.exists(f"{conf.data}/canary")


def test_a_server_that_does_not_start_on_a_full_disk_is_told_so(conf, monkeypatch, copy):
    """systemd says of it that its control process exited."""
    monkeypatch.setattr(sys.modules["pitr.plan"].shutil, "disk_usage", lambda _path: types.SimpleNamespace(free=3 << 20))

    told_to = []

    def systemctl(*words, check=True):
        told_to.append(words)
        if words == ("start", "postgres.service"):
            raise PitrError("systemctl --user: Job for postgres.service failed")
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(restore, "systemctl", systemctl)
    monkeypatch.setattr(restore.database, "systemctl", systemctl)
    told = r"service failed. The way back failed too: .*In place \(.*/data/postgres\) is the data from before; .* has 3 MB free: make room, and PostgreSQL "
    with pytest.raises(PitrError, match=told):
        restore.exchange(conf, copy)
    assert os.path.exists(f"{conf.data}/canary")
    assert ("start", "--no-block", "pitr-receive.service") in told_to[-2:], "it stayed stopped when PostgreSQL was back"


def test_data_elsewhere_or_on_a_mount_point_is_found_before_anything_stops(conf, monkeypatch, copy):
    monkeypatch.setattr(restore, "systemctl", lambda *_: pytest.fail("nothing may be stopped"))
    monkeypatch.setattr(restore.database, "systemctl", lambda *_: pytest.fail("nothing may be stopped"))
    unit = pathlib.Path(conf.home, restore.QUADLETS, "postgres.container")
    unit.parent.mkdir(parents=True)
    unit.write_text(f"[Container]\nVolume={conf.home}/data/pg15:/var/lib/postgresql/data\nVolume=/x:/run/postgresql\n", encoding="utf-8")
    with pytest.raises(PitrError, match="has its data in .*/data/pg15, and postgresql_data_directory is .*/data/postgres"):
        restore.exchange(conf, copy)
    for text in (f"Volume={conf.data}:/var/lib/postgresql/data\n", f"Volume={conf.data}:/var/lib/postgresql:rslave\n", "Volume=/x:/run/postgresql\n"):
        unit.write_text(text, encoding="utf-8")
        restore.exchangeable(conf)
    monkeypatch.setattr(restore.os.path, "ismount", lambda path: path == conf.data)
    with pytest.raises(PitrError, match="is a mount point, which cannot be renamed"):
        restore.exchange(conf, copy)


CONTROL = """Database system identifier:           7
Database cluster state:               {state}
Latest checkpoint location:           0/5000060
Latest checkpoint's REDO location:    0/5000028
"""


@pytest.mark.parametrize(
    ("state", "system", "ended", "runs", "missing", "told"),
    [("shut down", 7, "0/50000D8", False, "", False), ("shut down", 7, "0/5000060", False, "was stopped at", False),
     ("shut down", 7, "0/4FFFFF8", False, "was stopped at", False), ("in production", 7, "0/4FFFFF8", False, "was killed later than", False),
     ("in production", 7, "0/50000D8", False, "", True), ("in production", 7, "0/4FFFFF8", True, "", False), ("shut down", 8, "0/4FFFFF8", False, "", False)],
)  # fmt: skip
def test_latest_is_all_that_the_stopped_database_had(conf, monkeypatch, capsys, state, system, ended, runs, missing, told):
    """The receiver was away when it ended, or it was killed for it took too long: what it had not received used to be missing without a word."""
    monkeypatch.setattr(restore, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, CONTROL.format(state=state), ""))
    monkeypatch.setattr(restore.database, "podman", lambda *_, **__: subprocess.CompletedProcess([], 0, f"{runs}\n".lower(), ""))
    wanted = types.SimpleNamespace(base=types.SimpleNamespace(system_id=system))
    server = types.SimpleNamespace(sql=lambda *_: [f"1\t0/3000000\tno recovery target specified\n\n2\t{ended}\tno recovery target specified\n"])
    reading = types.SimpleNamespace(end="2026-11-28 12:00:00.000000")
    if missing:
        with pytest.raises(PitrError, match=rf"the archive ends at .* {missing} 0/5000060: \d+ bytes .* restore_to='2026-11-28 12:00:00.000000\+00'"):
            restore.complete(conf, wanted, server, 3, reading)
    else:
        assert restore.complete(conf, wanted, server, 3, reading) == ("" if runs or system != 7 else "0/5000060")
    assert ("did not end in order" in capsys.readouterr().out) is told


@pytest.mark.parametrize(
    ("name", "fetched", "refused"), [("restore-x", "", True), ("", "", False), ("restore-x", ".fetched", False)], ids=["operation", "by hand", "of a lost host"]
)
def test_a_database_that_was_started_while_the_copy_of_the_latest_was_made_ends_it(conf, monkeypatch, name, fetched, refused):
    """A web instance that was restarted had started it, before the copy was begun even, and was given orders: the copy was put in the place of them."""
    begun = other(conf, archive=conf.archive + fetched)
    wanted = types.SimpleNamespace(until=None, until_text="", lines=list, base=types.SimpleNamespace(timeline=1, name="b", system_id=7))
    reading = types.SimpleNamespace(commits=1, last_wanted="then", end="then")

    @contextlib.contextmanager
    def server(*_, **__):
        yield types.SimpleNamespace(sql=lambda text, *_: ["2"] if "substr" in text else ["1\t0/3000000\tx\n"], log=lambda: "")

    monkeypatch.setattr(restore, "podman", lambda *_, **__: None)
    monkeypatch.setattr(restore.database, "podman", lambda *_, **__: subprocess.CompletedProcess([], 0, "true\n", ""))
    monkeypatch.setattr(restore, "plan", lambda *_: wanted)
    monkeypatch.setattr(restore.recovery, "fill", lambda *_: os.mkdir(f"{conf.data}.restored") or reading)
    monkeypatch.setattr(restore.recovery, "server", server)
    monkeypatch.setattr(restore.wal, "known_timelines", lambda _settings: [1])
    monkeypatch.setattr(restore.wal, "running_timeline", lambda _settings: 1)
    monkeypatch.setattr(restore.checks, "verify", lambda *_: {})
    monkeypatch.setattr(restore.removal, "remove", lambda *_: None)
    if refused:
        with pytest.raises(PitrError, match="somebody has started that since: what it wrote then is not in the copy"):
            restore.restore(begun, "latest", f"{conf.data}.restored", name=name)
    else:
        assert restore.restore(begun, "latest", f"{conf.data}.restored", name=name)["last_transaction"] == "then"
    assert (removal.noted(f"{conf.data}.restored") is None) is refused


@pytest.mark.parametrize(
    "name", ["pitr_drill_directory", "pitr_directory", "pitr_status_directory", "postgresql_data_directory", "postgresql_socket_directory"]
)
@pytest.mark.parametrize(
    ("path", "says"),
    [("", "is empty"), (".", "has . or .."), ("/srv/x", "begins at the root of the disk, and not at senex_home"), ("../x", "has . or .."),
     ("a/../b", "has . or .."), ("a/", "has a slash at its end"), ("a//b", "or two beside one another")],
)  # fmt: skip
def test_directories_are_below_the_home(name, path, says):
    said = refused(**{name: path})
    assert f"{name}: '{path}' " in said and f"{says}" in said and "write a directory below senex_home" in said


@pytest.mark.parametrize("path", ["data/postgres", "data/postgres/drill", "backups", "backups/barman/drill", "data", "backups/status"])
def test_a_drill_has_a_directory_of_its_own(path):
    assert "drills need one of their own" in refused(pitr_drill_directory=path)


def test_the_defaults_are_right():
    assert refused() == "" and refused(pitr_drill_directory="srv/drills") == "" and refused(pitr_drill_directory="data/post") == ""


def test_an_exchange_tells_which_cluster_is_the_one_now(conf, monkeypatch, copy):
    """On a new host that of the lost one takes the place of an empty one; the next site.yml, which knew that, must find it right."""
    witness = pathlib.Path(conf.home, "config/postgresql/cluster")
    witness.parent.mkdir(parents=True)
    witness.write_text("7400\n", encoding="ascii")
    monkeypatch.setattr(restore, "systemctl", lambda *_, **__: None)
    monkeypatch.setattr(restore.database, "systemctl", lambda *_, **__: None)
    monkeypatch.setattr(restore, "control", lambda _settings, directory: {"Database system identifier": "7400" if directory == conf.data else "7300"})
    aside = restore.exchange(conf, copy)
    assert witness.read_text() == "7300\n" and witness.stat().st_mode & 0o777 == 0o644
    aside = shutil.move(aside, f"{conf.data}.before-restore-20261128T120000Z")
    monkeypatch.setattr(restore, "control", lambda _settings, directory: {"Database system identifier": "7300" if directory == conf.data else "7400"})
    monkeypatch.setattr(restore.wal, "leave_timeline", lambda _settings: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(PitrError, match="no space left"):
        restore.exchange_back(conf, aside)
    assert witness.read_text() == "7300\n", "taken back with it"


def prepared(kind, path, secret):
    """What whoever may make names in a directory puts where a file of ours is to be."""
    path.unlink(missing_ok=True)
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "second name":
        path.hardlink_to(secret)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path.name)


KINDS = ["link", "second name", "fifo", "loop"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [removal.MARK, f"{removal.MARK}.new"])
def test_the_mark_of_a_copy_is_written_through_nothing(conf, tmp_path, impatient, kind, name):
    """The database whose data it is may have made it: a link led to any file of the service user's."""
    secret = tmp_path / "secret"
    secret.write_text("nobody's", encoding="utf-8")
    place = pathlib.Path(conf.data)
    prepared(kind, place / name, secret)
    removal.note(str(place), {"proven": "now"})
    assert secret.read_text() == "nobody's" and (place / removal.MARK).is_file() and not (place / removal.MARK).is_symlink()
    assert removal.noted(str(place)) == {"proven": "now"} and (place / removal.MARK).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_of_a_copy_is_read_through_nothing(conf, tmp_path, impatient, kind):
    """Neither is it taken for proven by a file elsewhere, nor does a message say what is in one."""
    secret = tmp_path / "secret"
    secret.write_text('{"proven": "by hand"}\n', encoding="utf-8")
    place = pathlib.Path(conf.data)
    for name in (removal.MARK, "PG_VERSION"):
        prepared(kind, place / name, secret)
    assert (removal.noted(str(place)) is not None) == (kind == "second name"), "a file of its own, by another name"
    assert restore._major(str(place)) == ""
    (place / "PG_VERSION").unlink()
    (place / "PG_VERSION").write_text("17\n", encoding="ascii")
    assert restore._major(str(place)) == "17"


@pytest.mark.parametrize("said", ["", "[1]", "null", "[" * 100_000, "7"])
def test_a_mark_that_says_nothing_proves_nothing(conf, said):
    pathlib.Path(conf.data, removal.MARK).write_text(said, encoding="utf-8")
    assert not (removal.noted(conf.data) or {}).get("proven")


@pytest.mark.parametrize("kind", ["link", "fifo"])
@pytest.mark.parametrize("name", ["recovery.signal", "standby.signal", removal.MARK])
def test_a_base_backup_leads_its_restore_nowhere(conf, tmp_path, monkeypatch, impatient, kind, name):
    """A server that somebody has taken sends in it what it likes."""
    secret, directory = tmp_path / "secret", pathlib.Path(f"{conf.data}.restored")
    secret.write_text("nobody's", encoding="utf-8")

    def barman(*_words):
        directory.mkdir()
        prepared(kind, directory / name, secret)

    reading = types.SimpleNamespace(passed=True)
    monkeypatch.setattr(recovery, "barman", barman)
    for step in ("check_space", "verify_base", "as_container_user"):
        monkeypatch.setattr(recovery, step, lambda *_: None)
    monkeypatch.setattr(recovery.wal, "copy_history", lambda *_: None)
    monkeypatch.setattr(recovery.wal, "read_records", lambda *_: reading)
    base = types.SimpleNamespace(bytes=1, name="20261128T120000")
    assert recovery.fill(conf, types.SimpleNamespace(base=base, chain=[], until=None, until_text=None), str(directory)) is reading
    assert secret.read_text() == "nobody's" and sorted(os.listdir(directory)) == [removal.MARK, "recovery.signal"]
    assert all((directory / one).is_file() and not (directory / one).is_symlink() for one in os.listdir(directory))

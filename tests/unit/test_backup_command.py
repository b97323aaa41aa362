"""The backup command's own logic, laid out as the role installs it: status, lock, pruning, what fetching may not touch."""

import errno
import json
import os
import re
import shutil
import socket
import sys
import threading
import time
from pathlib import Path

import hostlib
import pytest
import yaml
from rendered import value

ROOT = Path(__file__).parents[2]
JOBS = ("dump", "redis", "media")


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    place = tmp_path_factory.mktemp("lib")
    shutil.copytree(ROOT / "roles/backup/files/senex_backup", place / "senex_backup", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "plugins/module_utils/postgresql", place / "senex_backup/postgresql", ignore=shutil.ignore_patterns("__pycache__"))
    hostlib.install(place)
    sys.path.insert(0, str(place))
    from senex_backup import cli, common, fetch, media, redis

    yield type("Command", (), {"cli": cli, "common": common, "fetch": fetch, "media": media, "redis": redis})
    sys.path.remove(str(place))


@pytest.fixture
def settings(command, tmp_path):
    (tmp_path / "config/backup").mkdir(parents=True)
    given = {"user": "senex", "offsite": {"host": "production"}, "jobs": {job: {"max_age": 60} for job in JOBS}}
    (tmp_path / "config/backup/settings.json").write_text(json.dumps(given), encoding="utf-8")
    return command.common.Settings(str(tmp_path))


def ago(days):
    return time.strftime("%Y-%m-%d-%H%M%S", time.gmtime(time.time() - days * 86400))


def test_every_kind_of_copy_is_known_everywhere(command):
    """By its module alone."""
    kinds = sys.modules["senex_backup.kinds"]
    assert list(kinds.every())[:2] == ["redis", "media"] and list(command.fetch.listed()) == ["dump", *kinds.every()]
    for kind, module in kinds.every().items():
        assert all(hasattr(module, name) for name in ("make", "verify", "copies", "stamp", "NAME", "UNFINISHED")) and kind == module.DIRECTORY
        assert command.cli.parse([kind]).verb == kind and command.common.places(kind) == [kind]
    assert command.common.places("offsite") == command.fetch.places() == ["postgresql", *kinds.every()] and command.common.places("offsite-wal") == []


def test_every_module_is_installed(command):
    names = {path.stem for path in (ROOT / "roles/backup/files/senex_backup").glob("*.py")}
    assert value("backup", "__backup_modules") == sorted(names)


@pytest.mark.parametrize("job", ["offsite", "offsite-wal", "offsite-check"])
def test_who_sends_where_nothing_is_configured_is_told_what_to_set(command, settings, monkeypatch, capsys, job):
    """It ended with a traceback: the job has no maximum age here."""
    place = Path(settings.home)
    written = json.loads((place / "config/backup/settings.json").read_text())
    (place / "config/backup/settings.json").write_text(json.dumps({**written, "offsite": {"repository": ""}}), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", [str(place / "bin/backup"), job])
    monkeypatch.setattr(command.common, "is_user", lambda _settings: None)
    monkeypatch.setattr(command.media, "inside", lambda _words: None)
    assert command.cli.main() == 1
    assert "there is no copy off the host: set backup_offsite_repository" in capsys.readouterr().err


def test_a_status_of_never_replaces_none_that_is_there(command, settings):
    command.cli.prepare(settings)
    assert {command.common.read_status(settings, job)["result"] for job in JOBS} == {"never"}
    command.common.run(settings, "dump", lambda: {"what": "x", "bytes": 7}, 0)
    command.cli.prepare(settings)
    status = command.common.read_status(settings, "dump")
    assert (status["result"], status["what"], status["bytes"], status["max_age_seconds"]) == ("ok", "x", 7, 60)
    assert os.stat(os.path.join(settings.status, "dump.json")).st_mode & 0o777 == 0o600


def test_a_failure_is_told_and_kept(command, settings):
    def work():
        raise OSError("the disk\nis full")

    with pytest.raises(command.common.BackupError, match="dump: the disk is full"):
        command.common.run(settings, "dump", work, 0)
    status = command.common.read_status(settings, "dump")
    assert (status["result"], status["error"]) == ("failed", "the disk is full") and status["finished"].endswith("+00:00")


def test_two_at_once_wait_or_say_so(command, settings):
    with command.common.alone(settings, "dump", 0):
        with pytest.raises(command.common.BackupError, match="another backup of dump is under way"), command.common.alone(settings, "dump", 0.3):
            pass
        with command.common.alone(settings, "redis", 0):
            pass


def test_too_small_a_disk_says_how_much_is_needed(command, tmp_path):
    with pytest.raises(command.common.BackupError, match=r"MB free, and the dump needs about \d+ MB"):
        command.common.need(str(tmp_path), 1 << 60, "the dump")


def test_copies_of_redis_go_by_days_and_the_newest_stays(command, tmp_path):
    old, young, new = (f"redis-{ago(days)}.rdb" for days in (9, 1, 0))
    for name in (old, f"{old}.sha256", new, "redis-x.rdb.part"):
        (tmp_path / name).touch()
    command.redis.prune(str(tmp_path), 7, str(tmp_path / new))
    assert sorted(os.listdir(tmp_path)) == sorted([old, f"{old}.sha256", new]), "all the others at once: is the clock right?"
    (tmp_path / young).touch()
    command.redis.prune(str(tmp_path), 7, str(tmp_path / new))
    assert sorted(os.listdir(tmp_path)) == sorted([young, new])


def test_damaged_media_are_named(command, tmp_path):
    copy = tmp_path / f"media-{ago(0)}"
    (copy / "files/deep").mkdir(parents=True)
    for name in ("good", "deep/two words", "gone\nfor ever"):
        (copy / "files" / name).write_text(name, encoding="utf-8")
    (copy / "files/link").symlink_to("nowhere")
    command.media.sums(str(copy), None)
    command.media.verify(None, str(copy))
    (copy / "files/deep/two words").write_text("two wordz", encoding="utf-8")
    (copy / "files/gone\nfor ever").unlink()
    (copy / "files/new").touch()
    with pytest.raises(command.common.BackupError, match=r"(?s)deep/two words.*for ever \(missing\).*new \(not of this copy\)") as raised:
        command.media.verify(None, str(copy))
    assert "good" not in str(raised.value)


def test_old_media_go_and_the_one_just_made_stays(command, settings):
    names, place = [f"media-{ago(days)}" for days in (50, 1, 0)], Path(settings.directory("media"))
    for name in names[::2]:
        (place / name / "files").mkdir(parents=True)
    assert command.media.prune(settings, str(place), 30, names[2]) == [], "all the others at once: is the clock right?"
    (place / names[1] / "files").mkdir(parents=True)
    assert command.media.prune(settings, str(place), 30, names[2]) == names[:1]
    assert sorted(os.listdir(place)) == names[1:]


def test_fetching_brings_what_is_missing_and_overwrites_nothing(command, tmp_path):
    for place, text in (("incoming", "theirs"), ("here", "mine")):
        (tmp_path / place / "both").mkdir(parents=True)
        (tmp_path / place / "both/file").write_text(text, encoding="utf-8")
    (tmp_path / "incoming/both/more").touch()
    (tmp_path / "incoming/new").mkdir()
    came, kept = command.fetch.merge(str(tmp_path / "incoming"), str(tmp_path / "here"))
    assert (came, kept) == (2, [str(tmp_path / "here/both/file")])
    assert (tmp_path / "here/both/file").read_text(encoding="utf-8") == "mine" and (tmp_path / "here/new").is_dir()


def snapshot(number, sent_by, *tags, hostname="production"):
    marks = [*tags, f"machine-{sent_by}", "on-db"]
    return {"id": f"{number}" * 8, "time": f"2026-11-0{number}T12:00:00Z", "hostname": hostname, "tags": marks}


@pytest.fixture
def bucket(command, settings, monkeypatch):
    """What restic lists, and this machine's name in it."""
    listed = []
    answer = type("Answer", (), {"stdout": property(lambda _: json.dumps(listed))})()
    monkeypatch.setattr(command.fetch, "restic", lambda *_words, **_more: answer)
    monkeypatch.setattr(command.fetch, "machine", lambda: "new")
    return listed


def test_a_new_machine_fetches_what_the_lost_one_sent_until_it_took_its_place(command, settings, bucket):
    bucket += [snapshot(1, "lost", "senex", "dump"), snapshot(2, "lost", "senex-wal"), snapshot(3, "lost", "senex", "dump"), snapshot(4, "lost", "senex-wal"),
               snapshot(5, "new", "senex", "dump"), snapshot(6, "new", "senex-wal"), snapshot(7, "web", "senex", "media")]  # fmt: skip
    found, wal = command.fetch.chosen(settings, "latest", "dump")
    assert (found["id"][0], wal["id"][0]) == ("3", "4")
    command.fetch.take_over(settings, "lost", "postgresql")
    found, wal = command.fetch.chosen(settings, "latest", "dump")
    assert (found["id"][0], wal["id"][0]) == ("5", "6")
    assert command.fetch.chosen(settings, "1111", "dump")[0]["id"][0] == "1"
    found, wal = command.fetch.chosen(settings, "machine-lost", "dump")
    assert (found["id"][0], wal["id"][0]) == ("3", "4")


def test_several_machines_that_were_here_are_a_question(command, settings, bucket):
    """A spare that was prepared and sends its empty database, one that was replaced by hand a year ago, a clone with the same machine id."""
    bucket += [snapshot(1, "lost", "senex", "dump"), snapshot(2, "spare", "senex", "dump"), snapshot(3, "lost", "senex", "dump")]
    with pytest.raises(command.common.BackupError, match=r"copies of several machines .*\(machine lost\); 22222222 of .*\(machine spare\)"):
        command.fetch.chosen(settings, "latest", "dump")
    assert command.fetch.chosen(settings, "machine-lost", "dump")[0]["id"][0] == "3"
    command.fetch.take_over(settings, "spare", "postgresql")
    assert command.fetch.chosen(settings, "latest", "dump")[0]["id"][0] == "3"
    bucket[0]["tags"][-1] = "on-clone"
    with pytest.raises(command.common.BackupError, match=r"by clone \(machine lost\).* by db \(machine lost\)"):
        command.fetch.chosen(settings, "latest", "dump")


def test_a_clock_that_was_ahead_has_not_the_newest_copy(command, settings, bucket):
    bucket += [snapshot(1, "lost", "senex", "dump"), {**snapshot(2, "lost", "senex", "dump"), "time": "2036-11-02T12:00:00Z"}]
    assert command.fetch.chosen(settings, "latest", "dump")[0]["id"][0] == "1"
    assert command.fetch.chosen(settings, "2222", "dump")[0]["id"][0] == "2"


def test_a_clone_thins_out_its_own_copies_alone(command, settings, monkeypatch):
    from senex_backup import offsite

    monkeypatch.setattr(offsite, "machine", lambda: "same")
    chosen = set()
    for name in ("one", "two"):
        monkeypatch.setattr(offsite.socket, "gethostname", lambda name=name: name)
        chosen.add(" ".join(offsite.mine(settings, "senex")))
    assert chosen == {f"--host production --tag senex,machine-same,on-{name}" for name in ("one", "two")}


def test_what_is_left_out_is_left_out_of_its_place_alone(command, settings):
    """Uploads that users have called film.part never left the host."""
    from fnmatch import fnmatch

    from senex_backup import offsite

    patterns = offsite.without(settings, (*offsite.unfinished(), *offsite.NOT_WAL))[1::2]
    assert all(pattern.startswith(f"{settings.backups}/") for pattern in patterns)

    def out(path):  # as restic: a star ends at a slash
        return any(pattern.count("/") == f"{settings.backups}/{path}".count("/") and fnmatch(f"{settings.backups}/{path}", pattern) for pattern in patterns)

    assert all(map(out, ("postgresql/daily.sql.gz.part", "media/media-x.gone", "media/media-x.part", "barman/main/base", "barman/kept/pg15/main/base")))
    assert not any(map(out, ("media/media-x/files/film.part", "media/media-x/files/postgresql/film.part", "media/media-x/files/barman/x/base")))


def test_a_bucket_without_the_wanted_copy_says_what_it_has(command, settings, bucket):
    with pytest.raises(command.common.BackupError, match="holds no copy of production with a dump$"):
        command.fetch.chosen(settings, "latest", "dump")
    bucket += [snapshot(1, "lost", "senex", "media", hostname="staging")]
    with pytest.raises(command.common.BackupError, match="it holds copies of staging: is backup_offsite_host right"):
        command.fetch.chosen(settings, "latest", "dump")
    with pytest.raises(command.common.BackupError, match="there is no copy 99 of production"):
        command.fetch.chosen(settings, "99", "dump")


@pytest.mark.parametrize("schema", ["", "public", '"Checks"'])
def test_an_extension_of_the_applications_own_is_used_and_stays(command, settings, monkeypatch, schema):
    """A database that had amcheck could never be restored: it was created once more."""
    from senex_backup import restore

    said, planted = [], [""]

    def sql(_settings, text, *_words, **_more):
        said.append(text)
        return {restore.amcheck.SCHEMA: schema}.get(text, "1")

    monkeypatch.setattr(restore, "sql", sql)
    monkeypatch.setattr(restore, "rows", lambda _settings, text, *_: [[name] for name in planted if name and text == restore.psql.IMPOSTORS])
    assert restore.check(settings, {}, "new") == ["1 indexes by amcheck"]
    text = "".join(said)
    assert f"count({schema or 'pg_catalog'}.bt_index_check" in text
    assert ("create extension" in text, "drop extension" in text) == (not schema, not schema)
    if schema:
        said.clear()
        planted[0] = f"{schema}.bt_index_check"
        with pytest.raises(command.common.BackupError, match="is not amcheck's own, and would run as the superuser"):
            restore.check(settings, {}, "new")
        assert "count(" not in said[-1], "it is not called"


@pytest.fixture
def cluster(command, settings, monkeypatch):
    """Names of databases, whether they take connections, and a statement that fails."""
    from senex_backup import filling, restore

    settings.given["database"] = {"name": "senex", "owner": "senex", "role": "postgres", "container": "postgres"}
    found = type("Cluster", (), {"open": {"senex": True, "new": True}, "fails": "", "restore": restore, "asked": []})

    def sql(_settings, text, database=None, **_more):
        found.asked.append(database or "senex")
        if found.fails and found.fails in text:
            raise command.common.BackupError("the reason.")
        if (database or "senex") not in found.open and database != "postgres":
            raise command.common.BackupError("no such database")
        if "rename" in text:
            found.open["old"] = found.open.pop("senex")
            found.open["senex"] = found.open.pop("new")
        elif "allow_connections" in text:
            name = text.split('"')[1]
            found.open[name] = "allow_connections true" in text
        return "150004"

    monkeypatch.setattr(restore, "sql", sql)
    monkeypatch.setattr(restore, "rows", lambda *words, **more: sql(*words, **more) and [])
    monkeypatch.setattr(restore.around, "sql", sql)
    monkeypatch.setattr(restore.around, "rows", restore.rows)
    monkeypatch.setattr(filling, "sql", sql)
    monkeypatch.setattr(filling, "rows", restore.rows)
    monkeypatch.setattr(restore.time, "sleep", lambda _seconds: None)
    return found


WANTED = {"database": "senex", "restored": "new", "aside": "old", "machine": "lost"}


def test_an_exchange_that_fails_says_what_is(command, settings, cluster, monkeypatch):
    cluster.fails = "rename"
    with pytest.raises(command.common.BackupError, match="the reason. senex is what it was; new holds what was restored"):
        cluster.restore.swap(settings, WANTED)
    assert cluster.open == {"senex": True, "new": True}
    cluster.fails = ""

    def full(*_words):
        raise OSError("no space left")

    monkeypatch.setattr(cluster.restore.fetch, "take_over", full)
    with pytest.raises(command.common.BackupError, match="senex is the restored database now, and the one from before is kept as old; .* no space left"):
        cluster.restore.swap(settings, WANTED)
    assert cluster.open == {"senex": True, "old": True}


def test_an_exchange_that_was_killed_is_begun_again(command, settings, cluster, monkeypatch):
    """It has left a database that takes no connection: nothing of the next one needs to be in it, and it is opened."""
    monkeypatch.setattr(cluster.restore, "chosen", lambda *_: "daily-2026-11-20-020000.sql.gz")
    monkeypatch.setattr(cluster.restore.dump_file, "verify", lambda _path: None)
    monkeypatch.setattr(cluster.restore.dump_file, "facts", lambda _path: {"database_bytes": 1})
    monkeypatch.setattr(cluster.restore, "need", lambda *_: None)
    cluster.open["senex"] = False
    cluster.restore.plan(settings, "newest")
    assert set(cluster.asked) == {"postgres"}
    monkeypatch.setattr(cluster.restore, "fill", lambda *_: None)
    monkeypatch.setattr(cluster.restore, "check", lambda *_: [])
    cluster.restore.load(settings, {"dump": "x", "restored": "new", "database": "senex"})
    assert cluster.open["senex"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", ""),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "it answered 302"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "it answered 404"),
        (b"no HTTP at all\r\n\r\n", "BadStatusLine"),
    ],
    ids=["taken", "elsewhere", "unknown", "no HTTP"],
)
def test_a_heartbeat_that_was_not_taken_is_told_without_its_address(command, settings, capsys, answer, said):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/secret-path"
        (Path(settings.home) / "config/backup/heartbeats.json").write_text(json.dumps({"dump": address}), encoding="utf-8")
        asked = []

        def serve():
            stream, _ = listening.accept()
            with stream:
                asked.append(stream.recv(4096))
                stream.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        command.common.heartbeat(settings, "dump")
    assert asked[0].startswith(b"GET /secret-path HTTP/1.1")
    told = capsys.readouterr().out
    assert told == (f"<4>the heartbeat of dump was not taken: {said}\n" if said else "") and "secret-path" not in told


def test_what_the_programs_import_lies_beside_them():
    known = yaml.safe_load((ROOT / "roles/backup/vars/main.yml").read_text(encoding="utf-8"))["__backup_postgresql_modules"]
    assert set(known) >= {"dump_entries", "dump_file", "psql", "sequences", "session"}


def test_a_status_that_finds_no_room_leaves_nothing_and_the_reason_is_the_first(command, settings, monkeypatch):
    """A full disk would get a file with each run."""

    def full(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    os.makedirs(settings.status, exist_ok=True)
    before = set(os.listdir(settings.status))
    monkeypatch.setattr(os, "fsync", full)

    def work():
        raise command.common.BackupError("the database does not answer")

    with pytest.raises(command.common.BackupError, match="the database does not answer"):
        command.common.run(settings, "dump", work, 0)
    assert set(os.listdir(settings.status)) - before <= {".dump.lock"}


def test_a_table_that_was_written_anew_between_the_moment_and_the_dump_is_no_dump(command):
    """Whoever looks from before sees it empty, in the dump and in what is counted beside it."""
    from senex_backup import dump

    moment = dump.Moment.__new__(dump.Moment)
    moment.sequences = {}
    moment.ask = lambda text: [["orders"]] if text.startswith(dump.ANEW) else []
    with pytest.raises(command.common.BackupError, match="orders: written anew while the dump began"):
        moment.facts()
    moment.ask = lambda _: []
    assert moment.facts()["tables"] == {}


def test_names_of_uploads_are_printed_as_one_line_and_end_nothing(command, settings, tmp_path):
    """The application names the files; whoever verifies the copies may be root at a terminal."""
    import subprocess

    for number, name in ((1, b"a\xff"), (2, b"b\x1b[2Jc\ngood    all")):
        copy = tmp_path / "backups/media" / f"media-{ago(number)}"
        (copy / "files").mkdir(parents=True)
        (copy / command.media.SUMS).touch()
        with open(os.path.join(os.fsencode(copy), b"files", name), "w", encoding="ascii"):
            pass
    program = """import sys
sys.path.insert(0, sys.argv[1])
from senex_backup import common, listing
try:
    listing.verify(common.Settings(sys.argv[2]), [])
except common.BackupError as error:
    sys.exit(common.fail(error))
"""
    lib = os.path.dirname(os.path.dirname(command.common.__file__))
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", program, lib, str(tmp_path)], capture_output=True, check=False, env=strict)
    assert [line.split()[0] for line in done.stdout.decode().splitlines()] == ["DAMAGED", "DAMAGED"], done
    assert "2 of 2 backups" in done.stderr.decode()
    assert b"\x1b" not in done.stdout


def test_what_is_told_of_others_is_printable(command, settings, capsys):
    command.common.say("one\n\ttwo \x1b[2J \udcff")
    command.common.fail(command.common.BackupError("of \x1b]0;x\x07 it"))
    told = capsys.readouterr()
    assert told.out == "one\n\ttwo ?[2J ?\n"
    assert told.err == "backup: of ?]0;x? it\n"


@pytest.mark.parametrize("words", ["restore", "restore newest", "restore newest --fetched", "restore --help"])
def test_whoever_types_restore_is_told_where_one_is_begun(command, capsys, words):
    """It was `argument step: invalid choice`."""
    with pytest.raises(SystemExit) as ended:
        command.cli.parse(words.split())
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "playbooks/restore.yml -i inventory/ENVIRONMENT -e restore_dump=NAME" in said and "senex backup list" in said
    assert command.cli.parse(["restore", "plan", "newest"]).argument == "newest"


def test_what_others_call_is_not_offered(command, capsys):
    with pytest.raises(SystemExit):
        command.cli.parse(["--help"])
    shown = set(re.findall(r"^    ([a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert {"dump", "redis", "media", "offsite", "list", "verify", "accept", "fetch", "restic"} <= shown and not shown & command.cli.CALLED


@pytest.mark.parametrize("keep", ["0", "-1", "x"])
def test_a_number_of_dumps_that_keeps_none_is_refused(command, capsys, keep):
    with pytest.raises(SystemExit):
        command.cli.parse(["dump", f"--keep={keep}"])
    assert f"{keep} is no number of dumps that can stay; write 1 or more" in capsys.readouterr().err

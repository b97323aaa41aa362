"""Restore drills: from the archive and from the bucket in turn, each with one of three outcomes, and what is remembered of them."""

import contextlib
import errno
import json
import os
import pathlib
import subprocess
import sys
import types

import pytest

FILES = pathlib.Path(__file__).parents[2] / "roles/pitr/files"
sys.path.insert(0, str(FILES))

from pitr import drill, jobs, offsite, recovery  # noqa: E402  (the path above must come first)
from pitr.jobs import PitrError, Unverified  # noqa: E402
from test_pitr_removal import conf  # noqa: E402, F401  (a fixture)


@pytest.fixture
def host(conf, monkeypatch):  # noqa: F811
    """A host that sends copies off; what restoring from a source does is in `does`."""
    settings = pathlib.Path(conf.home, "config/backup/settings.json")
    settings.parent.mkdir(exist_ok=True)
    settings.write_text('{"offsite": {"repository": "s3:x"}}', encoding="utf-8")
    asked, does = [], {}

    def plan(where, _to):
        source = drill.BUCKET if where.archive != conf.archive else drill.ARCHIVE
        asked.append(source)
        if source in does:
            raise does[source]
        return types.SimpleNamespace(base=types.SimpleNamespace(name="B", bytes=7 << 20))

    monkeypatch.setattr(drill, "plan", plan)
    monkeypatch.setattr(offsite, "fetch", lambda where, to, which: asked.append((os.path.dirname(where.archive), to, which)))
    monkeypatch.setattr(recovery, "fill", lambda *_: types.SimpleNamespace(end="2026-11-28 12:00:00.000000"))
    monkeypatch.setattr(recovery, "server", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(drill.checks, "verify", lambda *_, **__: {"rows": {"a": 3}})
    return types.SimpleNamespace(conf=conf, asked=asked, does=does, settings=settings, status=lambda: jobs.read(conf, "drill"))


def test_the_two_are_tried_in_turn(host):
    for _ in range(3):
        drill.drill(host.conf)
    root = os.path.join(host.conf.drill_directory, drill.ROOT)
    assert host.asked == ["archive", (root, "latest", "own"), "bucket", "archive"]
    assert not os.path.exists(root)
    host.settings.write_text('{"offsite": {"repository": ""}}', encoding="utf-8")
    for _ in range(2):
        drill.drill(host.conf)
    assert host.asked[4:] == ["archive", "archive"] and list(host.status()["sources"]) == ["archive"]


@pytest.fixture
def dumped(host, monkeypatch):
    """The same with dumps, and role backup's command; what that answers is in `says`."""
    host.settings.write_text('{"offsite": {"repository": "s3:x"}, "jobs": {"dump": {}}}', encoding="utf-8")
    dump = pathlib.Path(host.conf.home, "backups/postgresql/daily-2026-11-28-020000.sql.gz")
    dump.parent.mkdir(parents=True, exist_ok=True)
    dump.write_bytes(b"")
    host.able = pathlib.Path(host.conf.home, "lib/senex_backup/around.py")
    host.able.parent.mkdir(parents=True)
    host.able.write_text("", encoding="utf-8")
    host.dump, host.says = dump, {"dump": dump.name, "made": "2026-11-28T02:00:00Z", "bytes": 9, "rows": 3, "checked": ["3 rows in 1 tables"]}
    server = contextlib.contextmanager(lambda _settings, directory, name: (yield host.asked.append((directory, name))))
    monkeypatch.setattr(recovery, "blank", server)

    def backup(_settings, *words):
        host.asked.append(words)
        if "dump" in host.does:
            raise host.does["dump"]
        return f"said before\n{json.dumps(host.says)}\n"

    monkeypatch.setattr(offsite, "backup", backup)
    return host


def test_a_dump_has_its_turn(dumped):
    """What is proven of base backups and WAL says nothing of dumps, which are another format in another server."""
    for _ in range(4):
        drill.drill(dumped.conf)
    assert [one["source"] for one in dumped.status()["history"]] == ["archive", "bucket", "dump", "archive"]
    root = os.path.join(dumped.conf.drill_directory, drill.ROOT)
    assert (os.path.join(root, "data"), "pitr-drill") in dumped.asked and ("prove", "newest", "--container", "pitr-drill") in dumped.asked
    assert not os.path.exists(root) and set(dumped.status()["sources"]) == {"archive", "bucket", "dump"}
    drill.drill(dumped.conf, drill.DUMP)
    status = dumped.status()
    assert (status["what"], status["bytes"], status["checked"], status["rows"]) == (dumped.dump.name, 9, ["3 rows in 1 tables"], 3)
    assert status["rto_seconds"] is not None and status["rpo_seconds"] > 0 and status["newest"] == "2026-11-28T02:00:00Z"
    assert drill.lines(dumped.conf)[-1].startswith("from the newest dump: ")


@pytest.mark.parametrize(("what", "result"), [(PitrError('role "reports" does not exist'), "failed"), (Unverified("no room"), "unverified")])
def test_a_dump_has_three_outcomes_too(dumped, what, result):
    dumped.does["dump"] = what
    with pytest.raises(type(what)):
        drill.drill(dumped.conf, drill.DUMP)
    assert dumped.status()["sources"]["dump"]["result"] == result and dumped.status()["history"][-1]["rto_seconds"] is None


@pytest.mark.parametrize("settings", ['{"jobs": {"media": {}}}', "{}", "[]", "no json", '{"jobs": {"dump": 1}}', '{"jobs": {"dump": {}}, "offsite": null}'])
def test_a_host_without_dumps_or_a_bucket_is_not_asked_for_them(dumped, settings):
    if "dump" in settings:
        (dumped.able if "1" in settings else dumped.dump).unlink()
    dumped.settings.write_text(settings, encoding="utf-8")
    for _ in range(2):
        drill.drill(dumped.conf)
    assert [one["source"] for one in dumped.status()["history"]] == ["archive", "archive"]


def test_a_server_that_cannot_be_made_says_nothing_of_the_dump(conf, monkeypatch):  # noqa: F811
    monkeypatch.setattr(recovery, "as_container_user", lambda *_: None)
    monkeypatch.setattr(recovery, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, "", "initdb: no room"))
    with pytest.raises(Unverified, match="could not be made: .*no room"), recovery.blank(conf, os.path.join(conf.home, "blank"), "pitr-drill"):
        pytest.fail("it was asked")


def test_somebody_may_say_which(host):
    drill.drill(host.conf, drill.BUCKET)
    drill.drill(host.conf, drill.BUCKET)
    assert host.asked.count("bucket") == 2 and drill.due(host.conf) == "archive"


@pytest.mark.parametrize(
    ("what", "result"),
    [
        (PitrError("WAL segment x is missing"), "failed"),
        (Unverified("the storage does not answer"), "unverified"),
        (OSError(errno.ENOSPC, "No space left on device"), "unverified"),
        (OSError(errno.EIO, "Input/output error"), "failed"),
        (ValueError("a mistake of the program"), "failed"),
    ],
)
def test_three_outcomes(host, what, result):
    """What could not be tried is no proof, and no failure of a backup; the other source's last word stays."""
    drill.drill(host.conf)
    host.does["bucket"] = what
    with pytest.raises(type(what)):
        drill.drill(host.conf)
    status = host.status()
    assert (status["result"], status["source"]) == (result, "bucket") and str(what).split("] ")[-1] in status["error"]
    drill.drill(host.conf)
    status = host.status()
    assert status["result"] == "ok" and {name: one["result"] for name, one in status["sources"].items()} == {"archive": "ok", "bucket": result}
    assert status["sources"]["bucket"]["proved"] is None and status["sources"]["archive"]["proved"]


def test_a_proof_stays_known_when_the_next_one_could_not_be(host):
    drill.drill(host.conf, drill.BUCKET)
    proved = host.status()["sources"]["bucket"]["proved"]
    host.does["bucket"] = Unverified("away")
    with pytest.raises(Unverified):
        drill.drill(host.conf, drill.BUCKET)
    assert host.status()["sources"]["bucket"]["proved"] == proved


def test_the_history_is_bounded_and_shows_a_trend(host):
    for number in range(drill.KEPT + 3):
        drill.drill(host.conf, drill.ARCHIVE if number % 2 else drill.BUCKET)
    host.does["archive"] = PitrError("gone")
    with pytest.raises(PitrError):
        drill.drill(host.conf, drill.ARCHIVE)
    history = host.status()["history"]
    assert len(history) == drill.KEPT and history[-1]["result"] == "failed" and history[-1]["rto_seconds"] is None
    told = drill.lines(host.conf)
    assert (
        len(told) == 1 + drill.KEPT + 2
        and " failed " in told[drill.KEPT]
        and " proved " in told[1]
        and told[-1].startswith("from the bucket alone: 0 s, median of ")
    )
    assert len(json.dumps(host.status())) < 20_000, "status reads 64 kB at most"


def test_a_drill_of_before_is_one_of_the_archive(host):
    jobs.write(host.conf, "drill", result="failed", finished="2026-11-20T05:00:00Z", error="the reason")
    assert drill.lines(host.conf)[0].startswith("no drill yet")
    drill.drill(host.conf, drill.BUCKET)
    assert host.status()["sources"]["archive"] == {"result": "failed", "finished": "2026-11-20T05:00:00Z", "error": "the reason", "rto_seconds": None,
                                                   "rpo_seconds": None, "proved": None}  # fmt: skip


@pytest.mark.parametrize(("code", "kind"), [(75, Unverified), (1, PitrError)])
def test_a_storage_that_does_not_answer_is_told_from_a_bucket_without_the_copy(host, monkeypatch, code, kind):
    program = pathlib.Path(host.conf.home, "bin/backup")
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho 'backup: the reason' >&2\nexit {code}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(offsite.programs, "run", lambda *words, **_: subprocess.run(words, capture_output=True, text=True, check=False))
    with pytest.raises(PitrError, match="^the reason$") as raised:
        offsite.backup(host.conf, "fetch")
    assert type(raised.value) is kind


@pytest.mark.parametrize(("code", "kind"), [(1, PitrError), (125, Unverified), (127, Unverified)])
def test_a_podman_that_runs_nothing_says_nothing_of_the_backup(monkeypatch, code, kind):
    monkeypatch.setattr(recovery, "run", lambda *_, **__: subprocess.CompletedProcess([], code, "", "the reason"))
    monkeypatch.setattr(recovery, "in_image", lambda *_: [])
    with pytest.raises(PitrError, match="the reason") as raised:
        recovery.verify_base(None, types.SimpleNamespace(base=types.SimpleNamespace(name="B", data="/b")))
    assert type(raised.value) is kind

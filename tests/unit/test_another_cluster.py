"""A cluster is known by its system identifier, in status and off the host; and a backup of an empty site costs none of the other."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.senex.trader.plugins.module_utils.postgresql import dump_file
from test_backup_command import command, settings  # noqa: F401  (fixtures)
from test_dump_file import DAY, named
from watched import senex_ops

assert senex_ops  # on the path by that
from senex_ops import checks_database  # noqa: E402

FULL, EMPTY = {"public.order": 9000, "public.user": 1000}, {"public.order": 0, "public.user": 3}


def dumped(directory, age, tables, cluster="7300"):
    name = named(directory, "daily", age)
    (directory / f"{name}.json").write_text(json.dumps({"tables": tables, "cluster": cluster}))
    return name


def pruned(directory, tables, cluster="7300", days=7):
    name = dumped(directory, 0, tables, cluster)
    gone = dump_file.prune(str(directory), "daily", days, spare=str(directory / name))
    return gone, name


def test_dumps_of_a_site_that_became_empty_stay(tmp_path):
    """A week of dumps of an empty site: none of them is a reason to remove what is left of the full one."""
    old = [dumped(tmp_path, age, FULL) for age in (12, 11, 10)]
    empty = [dumped(tmp_path, age, EMPTY, "7400") for age in (9, 8, 2, 1)]
    gone, last = pruned(tmp_path, EMPTY, "7400")
    assert set(gone) == set(empty[:2]) and set(old) < set(os.listdir(tmp_path))
    assert dump_file.richer(str(tmp_path), str(tmp_path / last)) == old


@pytest.mark.parametrize("now", [FULL, {"public.order": 5001, "public.user": 3}, {"public.order": 90_000}])
def test_what_holds_about_the_same_replaces_it_also_as_another_cluster(tmp_path, now):
    """After an upgrade or a restore it is another one; nothing is kept for ever for that."""
    old = [dumped(tmp_path, age, FULL) for age in (12, 11, 10, 1)]
    assert pruned(tmp_path, now, "7400")[0] == old[:3]


def test_what_was_removed_on_purpose_is_accepted(tmp_path):
    old = [dumped(tmp_path, age, FULL) for age in (12, 11)]
    dumped(tmp_path, 1, EMPTY)
    assert pruned(tmp_path, EMPTY)[0] == []
    (tmp_path / dump_file.ACCEPTED).touch()
    later = dumped(tmp_path, -0.001, EMPTY)
    assert dump_file.prune(str(tmp_path), "daily", 7, spare=str(tmp_path / later)) == old


def test_dumps_without_numbers_and_small_ones_go_by_days_alone(tmp_path):
    old = [named(tmp_path, "daily", 12), dumped(tmp_path, 11, {"public.order": 40})]
    dumped(tmp_path, 1, {})
    assert pruned(tmp_path, {"public.order": 0})[0] == old


def copy(directory, age, files):
    name = time.strftime("media-%Y-%m-%d-%H%M%S", time.gmtime(time.time() - age * DAY))
    (directory / name).mkdir()
    (directory / name / "SHA256SUMS").write_text("".join(f"{'0' * 64}  files/{number}\0" for number in range(files)))
    return name


def test_copies_of_media_of_a_site_that_became_empty_stay(command, settings, tmp_path):  # noqa: F811
    from senex_backup import media

    full = [copy(tmp_path, age, 500) for age in (40, 39)]
    empty, _, last = copy(tmp_path, 38, 2), copy(tmp_path, 1, 2), copy(tmp_path, 0, 2)
    assert media.prune(settings, str(tmp_path), 30, last) == [empty] and media.richer(str(tmp_path), last) == full
    more = copy(tmp_path, -0.001, 400)
    assert media.prune(settings, str(tmp_path), 30, more) == full


def test_a_dump_of_far_less_is_kept_and_told_and_removes_nothing(command, settings, monkeypatch):  # noqa: F811
    """By the job that runs each night; one before a release goes on, and says it."""
    from senex_backup import dump
    from senex_backup.common import BackupError

    directory = settings.directory("postgresql")
    place = Path(directory)
    old = [dumped(place, age, FULL) for age in (12, 11)]
    settings.given["database"] = {"container": "postgres", "role": "senex", "name": "senex"}
    monkeypatch.setattr(dump, "rows", lambda *_: [["1000", "150000", "7400", "UTF8"]])
    monkeypatch.setattr(dump, "Moment", lambda _: type("Moment", (), {"name": "x", "facts": lambda self: {"tables": EMPTY}, "close": lambda self: None})())
    monkeypatch.setattr(dump.dump_file, "command", lambda *_: [sys.executable, "-c", f"print({'x' * 9 + dump_file.ENDS.decode()!r})"])
    settings.given["retention"] = {"daily": {"days": 7, "keep": 0}, "manual": {"days": 7, "keep": 0}}
    with pytest.raises(BackupError, match=rf"holds less than half the rows of {old[1]}, which is of another cluster: 2 dumps .*/bin/backup accept dump"):
        dump.make(settings, "daily")
    assert set(old) < set(os.listdir(place)) and len(dump.dump_file.dumps(directory)) == 3, "it is kept"
    assert dump.make(settings, "manual")["removed"] == []


@pytest.fixture
def tagged(command, settings):  # noqa: F811
    for kind, content in (("barman/main/identity.json", {"systemid": "7300"}), ("barman/odd/identity.json", ["x"])):
        path = os.path.join(settings.backups, kind)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as handle:
            json.dump(content, handle)
    dumped(Path(settings.directory("postgresql")), 1, FULL, "7400")
    yield settings
    shutil.rmtree(os.path.join(settings.backups, "barman"))


def test_copies_off_the_host_say_which_clusters_they_are_of(tagged, monkeypatch):
    from senex_backup import offsite

    asked = []
    monkeypatch.setattr(offsite, "restic", lambda _settings, *words, **_: asked.extend(words) or type("Done", (), {
        "returncode": 0, "stderr": "", "stdout": '{"message_type": "summary", "snapshot_id": "1"}'})())  # fmt: skip
    offsite.backup(tagged, ["senex"], "postgresql")
    assert [word for word in asked if word.startswith("cluster-")] == ["cluster-7300", "cluster-7400"]


def test_wal_of_another_cluster_does_not_go_with_a_copy(command):  # noqa: F811
    from senex_backup import fetch

    old, new, before = ({"id": "12345678", "time": "2026-11-21T00:00:00", "tags": ["machine-a", *tags]} for tags in (["cluster-1"], ["cluster-2"], []))
    assert not fetch.same_cluster(old, new) and fetch.same_cluster(old, old) and fetch.same_cluster(old, before)
    assert fetch.title(old).endswith("(machine a, cluster 1)") and fetch.title(before).endswith("(machine a)")


@pytest.mark.parametrize(
    ("row", "level", "says"),
    [
        (["7300", "on", "0"], "OK", "7300, data checksums on"),
        (["7300", "off", "0"], "OK", "playbooks/checksums.yml"),
        (["7300", "on", "2"], "FAIL", "2 pages were read whose checksum is wrong"),
    ],
)
def test_status_knows_the_cluster_and_its_pages(row, level, says):
    (finding,) = checks_database.judge_database([["cluster", *row]], type("Config", (), {"limits": None})(), 0)
    assert finding.level == level and says in finding.says

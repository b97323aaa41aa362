"""Redis and media taken back from a copy: what is in use is kept, and an exchange that is killed at any moment loses nothing and is ended by the next."""

import os
import shutil
from pathlib import Path

import pytest
from rendered import ROLES, loaded, value
from test_backup_command import command, settings  # noqa: F401  (fixtures)

STAMP, LATER = "20261128T120000Z", "20261128T130000Z"


class Killed(BaseException):
    """As by SIGKILL: nobody cleans up."""


@pytest.fixture
def place(command, settings, monkeypatch):  # noqa: F811
    """The directory of media, with what is in use, and a copy of something else."""
    from senex_backup import exchange, media, restore_files

    settings.given["media"] = {"directory": "data/media"}
    settings.given["redis"] = {"directory": "data/redis", "container": "redis"}
    for name in ("chown", "fchown"):
        monkeypatch.setattr(os, name, lambda *_: None)
    monkeypatch.setattr(media, "rsync", lambda *words, keep: shutil.copytree(words[-2], words[-1], dirs_exist_ok=True, symlinks=True))
    directory = Path(settings.home, "data/media")
    for name in ("one", "deep/two", "lost+found/x"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(f"in use: {name}", encoding="utf-8")
    copy = Path(settings.backups, "media/media-2026-11-20-020000")
    for name in ("one", "deep/three"):
        (copy / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / "files" / name).write_text(f"copied: {name}", encoding="utf-8")
    media.sums(str(copy), None)
    wanted = {"kind": "media", "stamp": STAMP, "name": copy.name, "path": str(copy)}
    return type("Place", (), {"exchange": exchange, "restore_files": restore_files, "media": media, "directory": directory, "copy": copy,
                              "settings": settings, "wanted": wanted})  # fmt: skip


def tree(directory):
    """{path: text}, without the mark of what may be removed."""
    found = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != ".senex-made"]
    return {str(path.relative_to(directory)): path.read_text(encoding="utf-8") for path in found}


COPIED = {"one": "copied: one", "deep/three": "copied: deep/three"}
USED = {"one": "in use: one", "deep/two": "in use: deep/two"}
STAYS = {"lost+found/x": "in use: lost+found/x"}


def below(name, files):
    return {f"{name}/{path}": text for path, text in files.items()}


def test_the_copy_is_in_place_and_what_was_there_is_kept(place):
    place.exchange.bring(place.settings, place.wanted)
    assert tree(place.directory) == {**USED, **STAYS, **below(f".restored-{STAMP}", COPIED)}, "what is in use is used on"
    place.exchange.swap(place.settings, place.wanted)
    assert tree(place.directory) == {**COPIED, **STAYS, **below(f".before-restore-{STAMP}", USED)}
    assert (place.directory / f".before-restore-{STAMP}").stat().st_mode & 0o777 == 0o700, "nginx serves this directory"
    assert place.exchange.kept(place.settings, "media") == [f"before-restore-{STAMP}"]


def test_the_way_back_is_a_restore_of_what_was_kept(place):
    place.exchange.bring(place.settings, place.wanted)
    place.exchange.swap(place.settings, place.wanted)
    place.exchange.swap(place.settings, {"kind": "media", "stamp": LATER, "name": "x", "back": f"before-restore-{STAMP}"})
    assert tree(place.directory) == {**USED, **STAYS, **below(f".before-restore-{LATER}", COPIED)}


@pytest.mark.parametrize("call", ["rename", "mkdir", "rmdir"])
@pytest.mark.parametrize("late", [False, True])
def test_killed_at_any_moment_the_next_one_ends_it(place, monkeypatch, call, late):
    """Before and after each change of a name, until one run gets through."""
    for number in range(1, 30):
        shutil.rmtree(place.directory)
        for name, text in {**USED, **STAYS}.items():
            (place.directory / name).parent.mkdir(parents=True, exist_ok=True)
            (place.directory / name).write_text(text, encoding="utf-8")
        place.exchange.bring(place.settings, place.wanted)
        real, calls = getattr(os, call), []

        def counted(*words, _real=real, _calls=calls, _number=number, **more):
            _calls.append(words)
            if len(_calls) == _number and not late:
                raise Killed
            _real(*words, **more)
            if len(_calls) == _number and late:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(os, call, counted)
            try:
                place.exchange.swap(place.settings, place.wanted)
            except Killed:
                pass
            else:
                return
        place.exchange.finish(str(place.directory))
        found = tree(place.directory)
        begun = {**COPIED, **STAYS, **below(f".before-restore-{STAMP}", USED)}
        unbegun = {**USED, **STAYS, **below(f".restored-{STAMP}", COPIED)}
        assert found in (begun, unbegun), (call, number)
    pytest.fail("it never ended")


@pytest.mark.parametrize("late", [False, True])
def test_a_way_back_that_is_killed_never_leaves_what_served_to_be_removed(place, monkeypatch, late):
    """At its first change of a name; the next restore removes what an earlier one had made ready."""
    place.exchange.bring(place.settings, place.wanted)
    place.exchange.swap(place.settings, place.wanted)
    real = os.rename

    def killed(*words, **more):
        if late:
            real(*words, **more)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        with pytest.raises(Killed):
            place.exchange.swap(place.settings, {"kind": "media", "stamp": LATER, "name": "x", "back": f"before-restore-{STAMP}"})
    place.exchange.bring(place.settings, {**place.wanted, "stamp": "20261128T140000Z"})
    assert set(USED.values()) <= set(tree(place.directory).values())


def test_a_copy_that_is_not_what_was_copied_leaves_nothing(place, command):  # noqa: F811
    (place.copy / "files/one").write_text("copied: two", encoding="utf-8")
    with pytest.raises(command.common.BackupError, match="files/one"):
        place.exchange.bring(place.settings, place.wanted)
    assert tree(place.directory) == {**USED, **STAYS}


@pytest.mark.parametrize("name", ["data", "media", ".restored-", ".restored-x", ".before-restore-latest", "one"])
def test_nothing_is_removed_that_no_restore_made(place, command, name, tmp_path):  # noqa: F811
    (tmp_path / name / "x").mkdir(parents=True, exist_ok=True)
    with pytest.raises(OSError, match="it is not removed|was not made by this program"):
        place.exchange.remove(place.settings, str(tmp_path / name))
    assert (tmp_path / name / "x").exists()


def test_what_was_kept_and_was_to_be_put_back_stays(place, monkeypatch):
    """A way back that was killed between its first two names: the next restore took what was kept for a copy of its own, and removed it."""
    place.exchange.bring(place.settings, place.wanted)
    place.exchange.swap(place.settings, place.wanted)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "mkdir", lambda *_: (_ for _ in ()).throw(Killed))
        place.exchange.swap(place.settings, {"kind": "media", "stamp": LATER, "name": "x", "back": f"before-restore-{STAMP}"})
    place.exchange.bring(place.settings, {**place.wanted, "stamp": "20261128T140000Z"})
    assert tree(place.directory / f".before-restore-{STAMP}") == USED and place.exchange.kept(place.settings, "media") == [f"before-restore-{STAMP}"]


@pytest.mark.parametrize("files", [{"one": "kept"}, {}], ids=["what was kept", "a restore that was killed before its mark"])
def test_what_lies_ready_without_a_mark_keeps_its_files_and_holds_up_nothing(place, files):
    """A way back by an earlier version, which gave what was kept this name first, and was killed then."""
    left = place.directory / f".restored-{STAMP}"
    left.mkdir()
    for name, text in files.items():
        (left / name).write_text(text, encoding="utf-8")
    place.exchange.bring(place.settings, {**place.wanted, "stamp": LATER})
    assert tree(place.directory) == {**USED, **STAYS, **below(f".before-restore-{STAMP}", files), **below(f".restored-{LATER}", COPIED)}
    assert place.exchange.kept(place.settings, "media") == ([f"before-restore-{STAMP}"] if files else [])


def test_a_link_with_such_a_name_leads_nowhere(place, command, tmp_path):  # noqa: F811
    (tmp_path / f".restored-{STAMP}").symlink_to(place.directory)
    with pytest.raises(OSError, match="is a link"):
        place.exchange.remove(place.settings, str(tmp_path / f".restored-{STAMP}"))
    assert (place.directory / "one").exists()


def test_a_backup_of_media_leaves_out_what_restores_kept(place):
    """As rsync takes it."""
    assert all(f"--exclude=/{mark}*Z/" in place.media.NOT_OURS for mark in (place.exchange.READY, place.exchange.COMING, place.exchange.ASIDE))


@pytest.fixture
def redis(place, monkeypatch):
    """A copy of Redis, a directory of it, and a container that answers what it is told to."""
    directory, answers = Path(place.settings.home, "data/redis"), {}
    (directory / "appendonlydir").mkdir(parents=True)
    (directory / "appendonlydir/log").write_text("in use", encoding="utf-8")
    copies = Path(place.settings.directory("redis"))
    (copies / "redis-2026-11-20-021000.rdb").write_bytes(b"REDIS copied")
    digest = place.restore_files.redis.digest_of((copies / "redis-2026-11-20-021000.rdb").open("rb"))
    (copies / "redis-2026-11-20-021000.rdb.sha256").write_text(f"{digest}  x\n", encoding="ascii")

    def podman(*words, **_more):
        key = next((key for key in answers if key in " ".join(words)), None)
        if key is None:
            raise place.restore_files.BackupError(f"no container: {words}")
        return answers[key]

    def namespace(step, wanted):
        return {"show": "[]"}.get(step) or str(place.exchange.STEPS[step](place.settings, wanted))

    for module in (place.restore_files, place.restore_files.redis):
        monkeypatch.setattr(module, "podman", podman)
    monkeypatch.setattr(place.restore_files, "namespace", namespace)
    monkeypatch.setattr(place.restore_files, "running", lambda _settings: False)
    return type("Redis", (), {"directory": directory, "answers": answers, "copies": copies})


def test_redis_starts_from_the_copy_alone(place, redis):
    redis.answers |= {"inspect": "image", "run --rm": "[info] 12 keys read\n[info] 2 expires\n[info] 1 already expired\n"}
    redis.answers["info keyspace"] = "db0:keys=3,expires=0"
    redis.answers |= {"scan 0": "7\n\n", "scan 7": "0\ncelery\n", "llen": "7\n", "hlen": "2\n"}
    plan = place.restore_files.step(place.settings, "redis", "plan", "newest")
    assert plan["holds"] == {"keys": 12, "expiring": 2}
    assert plan["now"] == ["database 0: 3 keys", "database 0: 7 messages in 'celery'", "database 0: 2 tasks that workers have begun and not finished"]
    place.restore_files.load(place.settings, plan)
    place.restore_files.swap(place.settings, plan)
    assert tree(redis.directory) == {"dump.rdb": "REDIS copied", f".before-restore-{plan['stamp']}/appendonlydir/log": "in use"}
    for held, good in ((10, True), (9, False)):
        redis.answers["info keyspace"] = f"db0:keys={held - 4},expires=0\ndb1:keys=4,expires=0"
        if good:
            place.restore_files.loaded(place.settings, plan)
        else:
            with pytest.raises(place.restore_files.BackupError, match="Redis holds 9 keys, and .* has 10 that last"):
                place.restore_files.loaded(place.settings, plan)


def test_a_redis_that_does_not_start_is_restored_all_the_same(place, redis):
    """There is no container to ask which image it is of."""
    redis.answers["run --rm"] = "[info] 12 keys read\n"
    unit = Path(place.settings.home, ".config/containers/systemd/redis.container")
    unit.parent.mkdir(parents=True)
    unit.write_text("[Container]\nImage=docker.io/library/redis:7-alpine\n", encoding="utf-8")
    plan = place.restore_files.step(place.settings, "redis", "plan", "newest")
    assert plan["holds"]["keys"] == 12 and plan["now"][0].startswith("Redis does not answer")


def test_redis_may_begin_empty(place, redis):
    """With a database of an earlier moment, whose rows the queued tasks do not know."""
    redis.answers |= {"info keyspace": "db1:keys=3", "scan 0": "0\n\n", "hlen": "0"}
    plan = place.restore_files.step(place.settings, "redis", "plan", "empty")
    assert plan["now"] == ["database 1: 3 keys"]
    for step in ("load", "swap", "loaded"):
        plan = place.restore_files.STEPS[step](place.settings, plan)
    assert tree(redis.directory) == {f".before-restore-{plan['stamp']}/appendonlydir/log": "in use"}
    with pytest.raises(place.restore_files.BackupError, match="there is no copy empty"):
        place.restore_files.step(place.settings, "media", "plan", "empty")


def test_a_redis_that_runs_is_not_touched(place, redis, monkeypatch):
    monkeypatch.setattr(place.restore_files, "running", lambda _settings: True)
    with pytest.raises(place.restore_files.BackupError, match="stop redis.service first"):
        place.restore_files.swap(place.settings, {"kind": "redis", "stamp": STAMP, "name": "x"})
    assert tree(redis.directory) == {"appendonlydir/log": "in use"}


def test_newest_is_the_newest_that_was_fetched(place, redis):
    redis.answers |= {"inspect": "image", "run --rm": "", "info keyspace": ""}
    for suffix in ("", ".sha256"):
        shutil.copy(redis.copies / f"redis-2026-11-20-021000.rdb{suffix}", redis.copies / f"redis-2026-11-28-021000.rdb{suffix}")
    state = Path(place.settings.home, ".local/state/senex-backup/fetched.json")
    state.parent.mkdir(parents=True)
    state.write_text('{"machine": "lost", "redis": "redis-2026-11-20-021000.rdb", "copy": "c"}', encoding="utf-8")
    assert place.restore_files.step(place.settings, "redis", "plan", "newest", True)["name"] == "redis-2026-11-20-021000.rdb"
    assert place.restore_files.step(place.settings, "redis", "plan", "newest")["name"] == "redis-2026-11-28-021000.rdb"


def test_damage_ends_it_before_anything_changes(place, redis):
    (redis.copies / "redis-2026-11-20-021000.rdb").write_bytes(b"REDIS copiee")
    with pytest.raises(place.restore_files.BackupError, match="is damaged"):
        place.restore_files.step(place.settings, "redis", "plan", "newest")
    assert tree(redis.directory) == {"appendonlydir/log": "in use"}


SNAPSHOT = b"REDIS0011\xfa\x09redis-ver\x057.2.4\xfe\x00\xfb\x01\x00\x00\x04kept\x03yes\xff" + bytes(range(8))


@pytest.mark.parametrize(
    ("there", "left"),
    [
        (SNAPSHOT + b"0123456789abcdef" * 2 + b"01234567", SNAPSHOT),
        (SNAPSHOT, SNAPSHOT),
        (SNAPSHOT[:-9] + b"0123456789abcdef" * 3 + SNAPSHOT[-9:], SNAPSHOT[:-9] + b"0123456789abcdef" * 3 + SNAPSHOT[-9:]),
        (SNAPSHOT + b"0123456789ABCDEF" * 2 + b"01234567", SNAPSHOT + b"0123456789ABCDEF" * 2 + b"01234567"),
        (b"", b""),
        (b"REDIS", b"REDIS"),
    ],
)
def test_the_mark_of_a_transfer_is_no_part_of_a_copy(place, tmp_path, there, left):
    """A log that begins with such a snapshot goes on with the mark, which is no command: Redis ended at each start."""
    (tmp_path / "x.rdb").write_bytes(there)
    place.restore_files.redis.without_mark(str(tmp_path / "x.rdb"))
    assert (tmp_path / "x.rdb").read_bytes() == left


def test_a_copy_of_before_is_restored_without_the_mark(place, redis):
    path = redis.copies / "redis-2026-11-20-021000.rdb"
    path.write_bytes(SNAPSHOT + b"f" * 40)
    place.exchange.bring(place.settings, {"kind": "redis", "stamp": STAMP, "path": str(path)})
    assert (redis.directory / f".restored-{STAMP}/dump.rdb").read_bytes() == SNAPSHOT and path.stat().st_size == len(SNAPSHOT) + 40


@pytest.mark.parametrize(
    ("inputs", "done"),
    [({"backup_switch_queue": True}, True), ({}, False), ({"backup_switch_queue": True, "senex_redis_cache_instance": "false"}, False),
     ({"backup_switch_queue": True, "__backup_swapped": {"rc": 1}}, False)],
    ids=["beside a restored database", "Redis from a copy", "there is none", "Redis is as it was"],
)  # fmt: skip
def test_the_caches_own_redis_begins_empty_with_the_queue(inputs, done):
    (play,) = loaded(ROLES / "backup/tasks/restore_files_switch.yml")
    (task,) = [task for task in play["block"] if "redis-cache.service" in str(task.get("senex.trader.release"))]
    given = {"senex_redis_cache_instance": True, "__backup_swapped": {"rc": 0}, **inputs}
    assert all(bool(value("backup", condition, **given)) for condition in task["when"]) == done
    assert "__backup_cache" in str(play["block"][-1]), "one that does not come back is said"


def test_media_copies_that_go_are_ours(place):
    """Of this version, and of those before; a directory of somebody else's with such a name stays."""
    directory = place.copy.parent
    names = [f"media-2026-11-{day}-020000" for day in (10, 11, 12)]
    place.exchange.owned.begin(str(directory / f"{names[0]}.part"))
    (directory / f"{names[1]}.gone/files/deep").mkdir(parents=True)
    (directory / "mine.part/x").mkdir(parents=True)
    (directory / f"{names[2]}.gone").mkdir()
    (directory / f"{names[2]}.gone/SHA256SUMS").touch()
    place.media.sweep(place.settings, str(directory))
    assert sorted(path.name for path in directory.iterdir()) == [place.copy.name, "mine.part"]
    (directory / f"{names[2]}.part/notes").mkdir(parents=True)
    with pytest.raises(OSError, match="was not made by this program"):
        place.media.sweep(place.settings, str(directory))
    assert (directory / f"{names[2]}.part/notes").is_dir()


@pytest.mark.parametrize("names", [
    (f".restored-{LATER}", f".before-restore-{LATER}"), (f".restored-{LATER}",), (f".coming-{LATER}",),
])  # fmt: skip
@pytest.mark.parametrize("step", ["bring", "swap"])
def test_a_link_that_a_container_has_planted_leads_nowhere(place, command, tmp_path, names, step):  # noqa: F811
    """Its user owns the directory; the names of a restore are known, and root of the namespace may go wherever the service user may."""
    if step == "swap":
        place.exchange.bring(place.settings, place.wanted)
    elsewhere = [tmp_path / "secrets", tmp_path / "units"]
    for number, path in enumerate(elsewhere):
        path.mkdir()
        (path / "there").write_text(str(number), encoding="utf-8")
    for name, path in zip(names, elsewhere, strict=False):
        (place.directory / name).symlink_to(path)
    before = tree(place.directory)
    with pytest.raises(command.common.BackupError, match="is no directory of a restore"):
        getattr(place.exchange, step)(place.settings, place.wanted)
        assert names == (f".restored-{LATER}",) and step == "swap", "one that nothing touches"
        raise command.common.BackupError("is no directory of a restore")
    assert [[file.name for file in path.iterdir()] for path in elsewhere] == [["there"], ["there"]]
    assert tree(place.directory) == before or names == (f".restored-{LATER}",)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a directory to another user")
def test_a_directory_of_another_user_is_none_of_a_restore(place, command, monkeypatch):  # noqa: F811
    monkeypatch.undo()
    for name in (f".restored-{LATER}", f".before-restore-{LATER}"):
        (place.directory / name).mkdir()
        os.chown(place.directory / name, 12345, 12345)
    (place.directory / f".restored-{LATER}/evil").touch()
    with pytest.raises(command.common.BackupError, match="belongs to a user of a container"):
        place.exchange.finish(str(place.directory))
    assert {path: text for path, text in tree(place.directory).items() if not path.startswith(".")} == {**USED, **STAYS}


def test_one_that_is_exchanged_while_files_are_brought_gets_none_of_them(place, monkeypatch, tmp_path):
    """The application serves meanwhile."""
    (tmp_path / "units").mkdir()
    ready = place.directory / f".restored-{STAMP}"

    def exchanged(*words, keep):
        ready.rename(place.directory / "mine")
        ready.symlink_to(tmp_path / "units")
        shutil.copytree(words[-2], words[-1], dirs_exist_ok=True, symlinks=True)

    monkeypatch.setattr(place.media, "rsync", exchanged)
    place.exchange.bring(place.settings, place.wanted)
    assert list((tmp_path / "units").iterdir()) == []


def test_a_fifo_among_the_uploads_holds_nothing_up(place):
    os.mkfifo(place.directory / "fifo")
    assert place.media.files(str(place.directory)) == ["files/deep/two", "files/lost+found/x", "files/one"]

"""Files of dumps: written whole or not at all, every kind of damage seen, pruned by reason and never to the last."""

import gzip
import os
import subprocess
import sys
import time

import pytest
from ansible_collections.senex.trader.plugins.module_utils.postgresql import dump_file

END = "\n--\n-- PostgreSQL database dump complete\n--\n"
DAY = 86400


def printing(text, code=0):
    return [sys.executable, "-c", f"import sys; sys.stdout.write({text!r}); sys.exit({code})"]


def named(directory, reason, age_days, text=END):
    path = dump_file.path_for(str(directory), reason, time.time() - age_days * DAY)
    with gzip.open(path, "wb") as handle:
        handle.write(text.encode())
    return os.path.basename(path)


def test_a_dump_is_whole_and_its_sum_is_what_sha256sum_reads(tmp_path):
    path = dump_file.path_for(str(tmp_path), "daily")
    made = dump_file.write(path, printing("x" * 100_000 + END), details=lambda: {"tables": {"a": 1}})
    assert gzip.decompress((tmp_path / os.path.basename(path)).read_bytes()).decode().endswith(END) and made["uncompressed_bytes"] == 100_000 + len(END)
    assert subprocess.run(["sha256sum", "--check", f"{path}.sha256"], cwd=tmp_path, check=False, capture_output=True).returncode == 0
    assert {os.stat(tmp_path / name).st_mode & 0o777 for name in os.listdir(tmp_path)} == {0o600}
    dump_file.verify(path)
    with pytest.raises(FileExistsError, match="is the clock right"):
        dump_file.path_for(str(tmp_path), "daily", dump_file.timestamp_of(os.path.basename(path)))


@pytest.mark.parametrize(("text", "code"), [("half of it", 0), ("all of it" + END, 1), ("", 0)])
def test_what_is_not_whole_leaves_nothing(tmp_path, text, code):
    with pytest.raises(OSError, match="pg_dump ended with"):
        dump_file.write(dump_file.path_for(str(tmp_path), "daily"), printing(text, code))
    assert os.listdir(tmp_path) == []


def test_details_that_fail_leave_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        dump_file.write(dump_file.path_for(str(tmp_path), "daily"), printing(END), details=lambda: {"a": 1 / 0})
    assert os.listdir(tmp_path) == []


def test_every_kind_of_damage_names_the_file(tmp_path):
    path = dump_file.path_for(str(tmp_path), "daily")
    dump_file.write(path, printing("".join(f"row {number}\n" for number in range(5000)) + END))
    good = (tmp_path / os.path.basename(path)).read_bytes()
    for position in range(0, len(good), max(1, len(good) // 40)):
        flipped = bytearray(good)
        flipped[position] ^= 1
        for broken in (bytes(flipped), good[:position], good + b"x"):
            (tmp_path / os.path.basename(path)).write_bytes(broken)
            with pytest.raises(OSError, match=os.path.basename(path)):
                dump_file.verify(path)
    (tmp_path / os.path.basename(path)).write_bytes(good)
    dump_file.verify(path)


def test_days_and_numbers_count_each_reason_apart(tmp_path):
    daily = [named(tmp_path, "daily", age) for age in (9, 8, 6, 1)]
    other = [named(tmp_path, "pre-deploy", age) for age in (90, 80, 70)]
    assert dump_file.prune(str(tmp_path), "daily", days=7, keep=1) == daily[:2]
    assert dump_file.prune(str(tmp_path), "pre-deploy", keep=2) == other[:1]
    assert sorted(os.listdir(tmp_path)) == sorted([*daily[2:], *other[1:]])


def test_the_last_one_stays_however_old(tmp_path):
    names = [named(tmp_path, "daily", age) for age in (40, 30)]
    dump_file.prune(str(tmp_path), "daily", days=7)
    assert os.listdir(tmp_path) == names[1:]


def test_a_clock_that_was_wrong_costs_no_good_dump(tmp_path):
    future, new = named(tmp_path, "daily", -400), named(tmp_path, "daily", 0)
    dump_file.prune(str(tmp_path), "daily", keep=1, spare=str(tmp_path / new))
    assert sorted(os.listdir(tmp_path)) == sorted([future, new])


def test_a_clock_that_jumps_ahead_costs_no_good_dump(tmp_path):
    """Seven good ones, and one of ten years later: they all look old to it. And back again: it is not the newest for ever."""
    good = [named(tmp_path, "daily", 3650 + age) for age in range(7, 0, -1)]
    ahead = named(tmp_path, "daily", 0)
    assert dump_file.prune(str(tmp_path), "daily", days=7, keep=1, spare=str(tmp_path / ahead)) == []
    assert sorted(os.listdir(tmp_path)) == sorted([*good, ahead])
    made = {name: dump_file.timestamp_of(name) for name in good} | {ahead: dump_file.timestamp_of(ahead) + 3650 * DAY}
    assert dump_file.newest(made) == good[-1]
    assert dump_file.newest({ahead: dump_file.timestamp_of(ahead) + 3650 * DAY}) == ahead and dump_file.newest({}) is None


@pytest.mark.parametrize(
    ("ages", "gone"),
    [
        ({"new": 0, "a": 9, "b": 8}, []),  # all but the one just made: the clock is wrong, or the host was off
        ({"new": 0, "a": 9, "b": 1}, ["a"]),
        ({"new": 0, "a": 9, "future": -400, "b": 8}, []),
        ({"new": 0, "a": 9, "future": -400, "b": 1}, ["a"]),
        ({"new": 0}, []),
    ],
)
def test_what_has_outlived_its_days(ages, gone):
    assert dump_file.outlived({name: time.time() - age * DAY for name, age in ages.items()}, 7, "new") == gone


def test_what_killed_runs_left_goes_and_one_under_way_stays(tmp_path):
    kept = named(tmp_path, "pre-deploy", 1)
    old, young, alone = f"{kept}.part", f"{kept}.json.part", "pre-deploy-2026-01-01-000000.sql.gz.sha256"
    for name in ("daily.sql.gz.part", old, young, alone):
        (tmp_path / name).touch()
    long_ago = time.time() - dump_file.LEFT_AFTER - 1
    for name in ("daily.sql.gz.part", old, alone):
        os.utime(tmp_path / name, (long_ago, long_ago))
    dump_file.prune(str(tmp_path), "pre-deploy", keep=2)
    assert sorted(os.listdir(tmp_path)) == sorted(["daily.sql.gz.part", kept, young])

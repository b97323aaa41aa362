#!/usr/bin/env python3
"""Measure recovery: rows lost with the database's volume, time until a restored database of given sizes serves, and backups beside plain tools.

On a test host of its own with the whole stack, or on the one that SENEX_TEST_HOST names (its database grows, is thrown away and restored: use no
other). The restore is playbooks/restore.yml, to the end of the archive; it serves when the public address does. Writes artifacts/recovery.json:
each size, the line through them (least squares) and where it leads. --keep puts it into docs.
"""

import argparse
import contextlib
import json
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from figures import keep, machine  # noqa: E402  (the path above must come first)
from own_host import stack_on  # noqa: E402
from stack import HOME, LAB, wait  # noqa: E402

DATA, PLAIN = f"{HOME}/data/postgres", f"{HOME}/backups/plain"
GROW = """
create table if not exists filler (id bigint primary key, at timestamptz, words text);
insert into filler select g, clock_timestamp(), md5(g::text) || md5((g + 1)::text) || md5((g + 2)::text) || md5((g + 3)::text)
from generate_series((select coalesce(max(id), 0) + 1 from filler), (select coalesce(max(id), 0) + {rows} from filler)) g;
"""
BYTES_PER_ROW = 206  # of table and index
WRITER = ROOT / "molecule" / "shared" / "writer.py"
# Each way of the collection beside the plain tools: what is timed, and what removes it
WAYS = {
    "base backup": (f"{HOME}/bin/pitr base", "true"),
    "pg_basebackup": (f"pg_basebackup -h {HOME}/run/postgresql -U barman -c fast -D {PLAIN}", f"rm -rf {PLAIN}"),
    "dump": (f"{HOME}/bin/backup dump", f"rm -f {HOME}/backups/postgresql/manual-*"),
    "pg_dump | zstd": (f"bash -o pipefail -c 'podman exec postgres pg_dump -U postgres -d senex | zstd -q -T1 >{PLAIN}.zst'", f"rm -f {PLAIN}.zst"),
}


def sql(stack, text):
    return stack.user("podman", "exec", "postgres", "psql", "-XAtqU", "postgres", "-d", "senex", "-v", "ON_ERROR_STOP=1", "-c", text, timeout=900).strip()


def size(stack):
    """Megabytes of the database."""
    return int(sql(stack, "select pg_database_size('senex')")) / 1024**2


def timed(stack, way):
    """Seconds that a way takes; what it leaves is removed."""
    command, clean = WAYS[way]
    began = time.monotonic()
    stack.user("sh", "-c", f"cd {HOME} && export HOME={HOME} && {command}", timeout=1800)
    seconds = time.monotonic() - began
    stack.user("sh", "-c", clean)
    return seconds


def grow(stack, megabytes):
    """Fill the database up to a size, and have the archive take it in."""
    missing = megabytes - size(stack)
    if missing > 0:
        sql(stack, GROW.format(rows=int(missing * 1024**2 / BYTES_PER_ROW)))
        sql(stack, "vacuum analyze filler")
        sql(stack, "checkpoint")
    wait(lambda: stack.ssh("senex pitr wal", timeout=600).returncode == 0, 900, "the archive has it all")


def compared(stack, rounds):
    """Each way in turn, so that what else the machine does meets all of them."""
    found = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, values in found.items():
            values.append(round(timed(stack, way), 1))
    median = {way: statistics.median(values) for way, values in found.items()}
    return {
        "backups": found,
        "base_throughput_ratio": round(median["pg_basebackup"] / median["base backup"], 2),
        "dump_throughput_ratio": round(median["pg_dump | zstd"] / median["dump"], 2),
    }


@contextlib.contextmanager
def watched(stack):
    """A list with the time at which the public address first answered well again."""
    answered, over = [], threading.Event()

    def ask():
        while not over.is_set() and not answered:
            with contextlib.suppress(OSError):
                if stack.healthy():
                    answered.append(time.monotonic())
            over.wait(0.2)

    thread = threading.Thread(target=ask)
    try:
        yield lambda: (thread.start(), answered)[1]
    finally:
        over.set()
        thread.join()


def lost(stack):
    """Rows come ten times a second, and the volume goes; what was acknowledged until then."""
    sql(
        stack, "create table if not exists ticks (id bigserial primary key, at timestamptz not null default clock_timestamp());alter table ticks owner to senex"
    )
    subprocess.run(stack.ssh_command(f"cat >{HOME}/writer.py"), input=WRITER.read_text(encoding="utf-8"), text=True, check=True, timeout=60)
    stack.user("rm", "-f", f"{HOME}/acks")
    stack.user("systemd-run", "--user", "--quiet", "--collect", "--unit=writer", "/usr/bin/python3", f"{HOME}/writer.py", f"{HOME}/acks")
    wait(lambda: int(stack.sh(f"wc -l <{HOME}/acks")) > 100, 120, "a hundred rows")
    stack.sh(f"mv {DATA} {DATA}.lost; kill -9 {stack.main_pid('postgres')}; rm -rf {DATA}.lost", timeout=120)
    wait(lambda: not stack.healthy(), 60, "the application misses its database")
    lines = stack.sh(f"cat {HOME}/acks").splitlines()
    return [(int(number), float(at)) for number, at in (line.split("|") for line in lines if re.fullmatch(r"\d+\|[\d.]+", line))]


def restored(stack):
    """Lose the volume, restore from the archive alone: what that took and cost."""
    there = int(sql(stack, "select count(*) from filler"))
    megabytes = size(stack)
    acknowledged = lost(stack)
    with watched(stack) as watch:
        began = time.monotonic()
        answered = watch()
        inputs = {"restore_from": "pitr", "restore_to": "latest", "restore_confirm": True}
        play = stack.play(playbook="playbooks/restore.yml", tags="all", variables=inputs, timeout=3600).expect()
        wait(lambda: answered, 60, "the public address answers")
    if int(sql(stack, "select count(*) from filler")) != there:
        sys.exit("the restored table is not what it was")
    kept = {int(line) for line in sql(stack, "select id from ticks").split()}
    missing = [at for number, at in acknowledged if number not in kept]
    said = next(result["stdout"] for name, result in play.results if "Restore a copy" in name and "stdout" in result)
    return {
        "database_mb": round(megabytes),
        "serving_seconds": round(answered[0] - began, 1),
        "playbook_seconds": round(play.wall, 1),  # to its end: with the base backup that begins the next chain
        "parts": json.loads(said[said.index("{") :])["seconds"],
        "wal_segments": int(re.search(r"WAL: +(\d+) segments", said)[1]),
        "rows_lost": len(missing),
        # From the first that is missing to the last that was acknowledged
        "rpo_seconds": round(max(missing) - min(missing), 1) if missing else 0.0,
        "load": stack.sh("cat /proc/loadavg").split()[0],
    }


def line(sizes):
    """Where the sizes lead: a line through what the program takes, and beside it what no size changes (Ansible, stop and start of the application)."""
    points = [(one["database_mb"] / 1024, sum(one["parts"].values())) for one in sizes]
    slope, fixed = statistics.linear_regression(*zip(*points, strict=True))
    around = sorted(round(one["serving_seconds"] - seconds, 1) for one, (_, seconds) in zip(sizes, points, strict=True))
    fixed += statistics.median(around)
    return {
        "fixed_seconds": round(fixed, 1),
        "seconds_per_gb": round(slope, 1),
        "around_seconds": around,
        "residual_seconds": [round(one["serving_seconds"] - fixed - slope * gigabytes, 1) for one, (gigabytes, _) in zip(sizes, points, strict=True)],
        "seconds_at_10_gb": round(fixed + 10 * slope),
        "seconds_at_100_gb": round(fixed + 100 * slope),
    }


def into_docs(found, command):
    """Figures of docs/figures.json, and the table of docs/operations/pitr.md."""
    sizes = found["sizes"]
    biggest = sizes[-1]
    keep("rpo_seconds", [max(one["rpo_seconds"] for one in sizes)], 10, "volume gone, the worst of all sizes")
    if biggest["database_mb"] >= 1000:
        keep("restore_1gb_seconds", [one["serving_seconds"] for one in sizes if one["database_mb"] >= 1000], 180, command)
    (ROOT / "docs" / "recovery.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    subprocess.run([sys.executable, ROOT / "docs" / "generate.py"], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[64, 256, 512, 1024], help="sizes of the database; one may come twice (%(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="backups of each kind, of which the median counts, at the last size (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="write what was found into docs as well")
    wanted = parser.parse_args()
    subprocess.run([LAB, "registry"], check=True, capture_output=True)
    with contextlib.contextmanager(stack_on)("recovery-bench") as stack:
        wait(lambda: json.loads(stack.sh(f"cat {HOME}/backups/status/base.json"))["result"] == "ok", 300, "the first base backup")
        found = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": machine(), "sizes": []}
        ordered = sorted(wanted.megabytes)
        for number, megabytes in enumerate(ordered, 1):
            grow(stack, megabytes)
            if number == len(ordered):
                found |= compared(stack, wanted.rounds)
            else:
                timed(stack, "base backup")
            found["sizes"].append(restored(stack))
            print(json.dumps(found["sizes"][-1]), file=sys.stderr, flush=True)
    if len(found["sizes"]) > 1:
        found["restore"] = line(found["sizes"])
    place = ROOT / "artifacts" / "recovery.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    if wanted.keep:
        into_docs(found, f"playbooks/restore.yml after the volume was lost, {found['sizes'][-1]['wal_segments']} WAL segments")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Measure point-in-time recovery on a host that has roles postgresql and pitr: base backup beside plain pg_basebackup, restore of databases of given sizes.

The host's database gets a table `filler` of each size in turn; use a test host. Prints JSON: each size, and with two or more of them the line
through them (seconds = fixed + per_gb * GB, least squares), what that comes to at 10 and 100 GB, and how far the sizes lie from the line.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import time

HOME = "/opt/senex-trader"
FILL = """
drop table if exists filler;
create table filler as
  select g as id, clock_timestamp() as at, md5(g::text) || md5((g + 1)::text) || md5((g + 2)::text) || md5((g + 3)::text) as words
  from generate_series(1, {rows}) g;
create index on filler (id);
"""


class Host:
    """A test host over ssh, as its service user."""

    def __init__(self, ssh):
        self.ssh = ssh

    def run(self, command, stdin="", user="senex"):
        """What a command prints, and how many seconds it took."""
        inside = f"cd {HOME} && export HOME={HOME} XDG_RUNTIME_DIR=/run/user/$(id -u) DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$(id -u)/bus && {command}"
        began = time.monotonic()
        done = subprocess.run([*self.ssh, f"runuser -u {user} -- sh -c {shlex.quote(inside)}"], input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{command}: {done.stderr or done.stdout}")
        return done.stdout, time.monotonic() - began

    def sql(self, text):
        """Statements for the database in production."""
        return self.run("podman exec -i postgres psql -X -q -A -t -v ON_ERROR_STOP=1 -U senex -d senex", stdin=text)[0].strip()


def measure(host, megabytes, rounds):
    """Fill, back up both ways in turn, write some more, restore to before a dropped table, exchange."""
    host.sql(FILL.format(rows=int(megabytes * 1024 * 1024 / 187)))
    size = int(host.sql("select pg_database_size('senex')"))
    ours, plain = [], []
    for _ in range(rounds):
        plain.append(host.run(f"pg_basebackup -h {HOME}/run/postgresql -U barman -c fast -X none -D {HOME}/backups/plain && rm -rf {HOME}/backups/plain")[1])
        ours.append(host.run("bin/pitr base")[1])
    host.sql("insert into filler select g, clock_timestamp(), 'after' from generate_series(1, 1000) g")
    moment = host.run("sleep 1; date -u '+%Y-%m-%d %H:%M:%S.%6N+00'; sleep 1")[0].strip()
    count = host.sql("select count(*) from filler")
    host.sql("drop table filler")
    began = time.monotonic()
    told = host.run(f"bin/pitr restore --to '{moment}'")[0]
    copied = time.monotonic() - began
    aside = host.run(f"bin/pitr exchange {HOME}/data/postgres.restored")[0].strip()
    serving = time.monotonic() - began
    if host.sql("select count(*) from filler") != count:
        sys.exit("the restored table is not what it was")
    host.sql("drop table filler")
    host.run("bin/pitr base")  # of the new timeline, from which the next size goes on
    host.run(f"podman unshare rm -rf {aside}")
    megabytes = size / 1024**2
    ours.sort()
    plain.sort()
    return {
        "database_mb": round(megabytes),
        "base_seconds": [round(value, 1) for value in ours],
        "plain_seconds": [round(value, 1) for value in plain],
        "base_mb_per_second": round(megabytes / statistics.median(ours), 1),
        "base_throughput_ratio": round(statistics.median(plain) / statistics.median(ours), 2),
        "restore_copy_seconds": round(copied, 1),
        "restore_serving_seconds": round(serving, 1),
        "parts": json.loads(told[told.index("{") :])["seconds"],
        "load": host.run("cat /proc/loadavg")[0].split()[0],
    }


def line(sizes):
    """Seconds until a restored database serves, as a line over its size, and where that line leads."""
    points = [(one["database_mb"] / 1024, one["restore_serving_seconds"]) for one in sizes]
    slope, fixed = statistics.linear_regression(*zip(*points, strict=True))
    worst = max(abs(seconds - fixed - slope * gigabytes) / seconds for gigabytes, seconds in points)
    return {
        "fixed_seconds": round(fixed, 1),
        "seconds_per_gb": round(slope, 1),
        "worst_deviation_percent": round(100 * worst, 1),
        "seconds_at_10_gb": round(fixed + 10 * slope),
        "seconds_at_100_gb": round(fixed + 100 * slope),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ssh", required=True, help="such as 'ssh -F CONFIG HOST'")
    parser.add_argument("--megabytes", type=float, nargs="+", default=[256, 512, 1024, 2048], help="sizes of the database (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="base backups of each kind and size, of which the median counts (%(default)s)")
    wanted = parser.parse_args()
    host, sizes = Host(shlex.split(wanted.ssh)), []
    for megabytes in wanted.megabytes:
        sizes.append(measure(host, megabytes, wanted.rounds))
        print(f"{megabytes:g} MB: serving after {sizes[-1]['restore_serving_seconds']} s", file=sys.stderr, flush=True)
    print(json.dumps({"sizes": sizes, **({"restore_serving": line(sizes)} if len(sizes) > 1 else {})}, indent=1))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Measure point-in-time recovery on a host that has roles postgresql and pitr: base backup beside plain pg_basebackup, restore of a database of a given size.

The host's database gets a table `filler` of that size; use a test host. Prints JSON.
"""

import argparse
import json
import shlex
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


def measure(host, megabytes):
    """Fill, back up both ways in turn, write some more, restore to before a dropped table, exchange."""
    host.sql(FILL.format(rows=megabytes * 1024 * 1024 // 187))
    size = int(host.sql("select pg_database_size('senex')"))
    ours, plain = [], []
    for _ in range(3):
        plain.append(host.run(f"pg_basebackup -h {HOME}/run/postgresql -U barman -c fast -X none -D {HOME}/backups/plain && rm -rf {HOME}/backups/plain")[1])
        ours.append(host.run("bin/pitr base")[1])
    host.sql("insert into filler select g, clock_timestamp(), 'after' from generate_series(1, 1000) g")
    moment = host.run("sleep 1; date -u '+%Y-%m-%d %H:%M:%S.%6N+00'; sleep 1")[0].strip()
    count = host.sql("select count(*) from filler")
    host.sql("drop table filler")
    began = time.monotonic()
    told = host.run(f"bin/pitr restore --to '{moment}'")[0]
    copied = time.monotonic() - began
    host.run(f"bin/pitr exchange {HOME}/data/postgres.restored")
    serving = time.monotonic() - began
    if host.sql("select count(*) from filler") != count:
        sys.exit("the restored table is not what it was")
    host.sql("drop table filler")
    megabytes = size / 1024**2
    ours.sort()
    plain.sort()
    return {
        "database_mb": round(megabytes),
        "base_seconds": [round(value, 1) for value in ours],
        "plain_seconds": [round(value, 1) for value in plain],
        "base_mb_per_second": round(megabytes / ours[1], 1),
        "base_throughput_ratio": round(plain[1] / ours[1], 2),
        "restore_copy_seconds": round(copied, 1),
        "restore_serving_seconds": round(serving, 1),
        "parts": json.loads(told[told.index("{") :])["seconds"],
        "load": host.run("cat /proc/loadavg")[0].split()[0],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ssh", required=True, help="such as 'ssh -F CONFIG HOST'")
    parser.add_argument("--megabytes", type=int, default=1024)
    wanted = parser.parse_args()
    print(json.dumps(measure(Host(shlex.split(wanted.ssh)), wanted.megabytes), indent=1))


if __name__ == "__main__":
    main()

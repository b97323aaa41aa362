"""Checks of PostgreSQL, and of Beat by its tables there."""

from __future__ import annotations

from .findings import Check, Finding, Sample, age, fail, named, ok, size, warn
from .postgresql import session

# One line a value; tables and views that are not there give none. A receiver of WAL replays nothing, and is no standby.
# Beat: how long silent, and its shortest interval.
DATABASE = """
select 'connections', count(*)::text, current_setting('max_connections'), current_setting('server_version') from pg_stat_activity;
select 'cluster', system_identifier::text, current_setting('data_checksums'),
       (select coalesce(sum(checksum_failures), 0)::text from pg_stat_database) from pg_control_system();
select 'archiver', failed_count::text, coalesce(extract(epoch from now() - last_archived_time)::int::text, ''),
       (coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false))::text
  from pg_stat_archiver where current_setting('archive_mode') <> 'off';
select 'slot', slot_name, active::text, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint::text
  from pg_replication_slots where not pg_is_in_recovery();
select 'standby', application_name, coalesce(extract(epoch from replay_lag), 0)::int::text from pg_stat_replication
  where replay_lsn is not null;
select 'lock', holder.pid::text, holder.state, count(*)::text, extract(epoch from now() - min(waiting.query_start))::int::text
  from (select query_start, unnest(pg_blocking_pids(pid)) as held_by from pg_stat_activity
         where wait_event_type = 'Lock' and query_start < now() - interval '1 minute') as waiting
  join pg_stat_activity as holder on holder.pid = waiting.held_by
 where holder.wait_event_type is distinct from 'Lock' group by holder.pid, holder.state;
"""

BEAT = """
select coalesce(extract(epoch from now() - max(last_run_at))::int::text, ''),
       coalesce((select min(every * case period when 'days' then 86400 when 'hours' then 3600 when 'minutes' then 60 else 1 end)::text
                   from django_celery_beat_periodictask t join django_celery_beat_intervalschedule i on i.id = t.interval_id where t.enabled), ''),
       extract(epoch from now() - (select pg_postmaster_start_time()))::int
  from django_celery_beat_periodictask where enabled;
"""


def psql(host, config, text: str, role: str = "") -> list[list[str]]:
    """Rows of a script, for the superuser: others are not shown all that runs. The application's tables are found by its own search path.

    The superuser has none: who owns the database may set one for it that leads to functions of that owner's in the place of PostgreSQL's.
    """
    base = config.database
    target = base.database if role else session.target(base.database, options=session.GUARD)
    words = ["psql", "-XqAt", "-F", "\x1f", "-v", "ON_ERROR_STOP=1", "--username", role or base.superuser, "--dbname", target]
    done = host.inside(base.container, *words, stdin=text)
    if done.code:
        raise OSError(f"psql in {base.container}: {done.said}")
    # Not splitlines: what a client sends may hold other characters that it takes for the end of a line
    return [line.split("\x1f") for line in done.out.split("\n") if line]


def read_database(host, config) -> list[list[str]]:
    """Connections, archiver, slots."""
    return psql(host, config, DATABASE)


def judge_database(data: list[list[str]], config, now: float) -> list[Finding]:
    """PostgreSQL answers, has connections left, and its log does not pile up."""
    found, limits = [], config.limits
    for kind, *values in data:
        if kind == "connections":
            used, most = int(values[0]), int(values[1])
            says = f"{'PostgreSQL ' + values[2].split()[0] + ' ' if values[2:] else ''}answers, {used} of {most} connections"
            # Where none are left some are kept for the superuser, who also sees what others do
            do = f"senex psql -U {config.database.superuser} -c 'select usename, state, count(*) from pg_stat_activity group by 1, 2'"
            found.append(ok("database", says) if used < 0.9 * most else warn("database", says, do))
        elif kind == "cluster":
            found.append(judge_cluster(*values))
        elif kind == "archiver" and (values[2] == "true" or (values[1] and int(values[1]) > 10 * limits.wal_lag)):
            says = f"archiving fails ({values[0]} times), last done {age(int(values[1])) + ' ago' if values[1] else 'never'}"
            found.append(fail("wal archive", says, "senex logs postgres; senex backup; disk space of the archive"))
        elif kind == "slot":
            kept = int(values[2])
            state = f"slot {values[0]} {'is read' if values[1] == 'true' else 'is read by nobody'} and keeps {size(kept)} of the log"
            if kept > limits.wal_kept * 1e6 or (values[1] != "true" and kept > limits.wal_kept * 1e5):
                found.append(fail(f"wal slot {values[0]}", state, "start its reader again; the log fills the disk otherwise"))
            else:
                found.append(ok(f"wal slot {values[0]}", state))
        elif kind == "standby" and int(values[1]) > limits.wal_lag:
            found.append(warn(f"standby {values[0]}", f"is {age(int(values[1]))} behind", "its network and disk"))
        elif kind == "lock":
            pid, state, count, seconds = values
            says = f"session {pid} ({state}) holds up {count} others, for {age(int(seconds))} by now"
            do = f"senex psql -U {config.database.superuser} -c 'select pg_terminate_backend({named(pid)})' ends it"
            found.append(warn("database lock", says, f"senex activity shows what it does; {do}"))
    return found


def judge_cluster(identifier: str, checksums: str, failures: str) -> Finding:
    """By its system identifier, as the archive and copies off the host have it too."""
    if int(failures):
        says = f"cluster {identifier}: {failures} pages were read whose checksum is wrong, so the disk gives other bytes than were written"
        return fail("database pages", says, "senex logs postgres names the file; look at the disk (dmesg), and see docs/user/postgresql.md")
    return ok("database cluster", f"{identifier}, data checksums {checksums}" + ("" if checksums == "on" else " (playbooks/checksums.yml enables them)"))


def read_beat(host, config) -> dict:
    """When Beat last sent something, by its own tables."""
    tables = ("periodictask", "intervalschedule")
    here = psql(host, config, "select " + " and ".join(f"to_regclass('django_celery_beat_{name}') is not null" for name in tables), config.database.user)
    rows = psql(host, config, BEAT, config.database.user) if here[0][0] == "t" else []
    return {"silent": rows[0][0], "shortest": rows[0][1], "up": int(rows[0][2])} if rows else {}


def judge_beat(data: dict, config, now: float) -> list[Finding]:
    """Beat sends what is due."""
    if not data:
        return [ok("beat", "keeps no schedule in this database")]
    if not data["silent"]:
        return [ok("beat", "has not sent anything yet")]
    silent = int(data["silent"])
    limit = max(config.limits.beat_silence, 3 * int(data["shortest"] or 0))
    if data["shortest"] and min(silent, data["up"]) > limit:
        return [fail("beat", f"has sent nothing for {age(silent)}", "senex logs celery-beat; senex restart celery-beat")]
    return [ok("beat", f"sent a task {age(max(0, silent))} ago")]


def measure_database(data: list[list[str]], now: float) -> list[Sample]:
    """How much of the log each reader of it keeps here."""
    rows = [values for kind, *values in data if kind == "slot" and len(values) == 3 and values[2].lstrip("-").isdigit()]
    return [Sample("wal_kept_bytes", int(kept), {"slot": slot}) for slot, _, kept in rows]


def measure_beat(data: dict, now: float) -> list[Sample]:
    """When Beat last sent a task."""
    return [Sample("beat_sent_seconds", round(now) - int(data["silent"]))] if data.get("silent") else []


CHECKS = [
    Check("database", read_database, judge_database, lambda config: config.database, lambda probe: 10 * probe.slow_interval, measure_database),
    Check("beat", read_beat, judge_beat, lambda config: config.beat and config.database, lambda probe: 10 * probe.slow_interval, measure_beat),
]

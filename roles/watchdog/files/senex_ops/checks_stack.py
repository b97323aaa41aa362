"""Checks of the stack: web instances, the public address, name resolution between containers, PostgreSQL, Redis and its queues, Beat, containers."""

from __future__ import annotations

import datetime
import json
import os
import re

from senex_host import untrusted

from .findings import Check, Finding, age, fail, few, named, ok, size, warn
from .host import Answer
from .postgresql import session

SLIRP = "/usr/bin/slirp4netns"
CACHE = "redis-cache"  # the container of Redis' second instance
WAY_OUT = "way out"
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

# Tasks that workers hold, as Celery's transport for Redis notes them: how many for longer than the timeout that is the script's argument (and 5 minutes,
# for workers look every 100 s), and those that wait for a time, each with when it was handed out, that time and its name. The oldest 200, so that it is cheap.
HELD = (
    "local now = redis.call('TIME')[1] local old = redis.pcall('ZCOUNT', 'unacked_index', '-inf', now - ARGV[1] - 300) "
    "local ids = redis.pcall('ZRANGE', 'unacked_index', 0, 199, 'WITHSCORES') if ids.err or type(old) ~= 'number' then return 'held 0 []' end "
    "local rows = {} for at = 1, #ids, 2 do local good, one = pcall(cjson.decode, redis.pcall('HGET', 'unacked', ids[at])) "
    "local told = good and type(one) == 'table' and type(one[1]) == 'table' and one[1].headers "
    "if type(told) == 'table' and type(told.eta) == 'string' then rows[#rows + 1] = {ids[at + 1], told.eta, tostring(told.task)} end end "
    "return 'held ' .. old .. ' ' .. (#rows > 0 and cjson.encode(rows) or '[]')"
)

# What Redis says of a file that it cannot load: of the log's files by name, of a snapshot that it is one
DAMAGED = re.compile(r"(?:reading the append only file|reading the RDB (?:preamble of the AOF|base) file|Checking RDB file) (?:\S*/)?([\w.-]+\w)")
UNREADABLE = re.compile(r"Terminating server after rdb file reading failure|Fatal error loading the DB|Wrong signature trying to load DB|Invalid AOF manifest")


def read_web(host, config) -> dict[str, Answer]:
    """Each instance at its port on the host."""
    web = config.web
    return {one.unit: host.get(one.address, one.port, web.alive_path, web.domain, config.probe.timeout) for one in web.instances}


def why(answer: Answer, domain: str) -> str:
    """What a wrong answer is a sign of."""
    if answer.status == 400:
        return f"400, so the application does not know the name {domain}: ALLOWED_HOSTS (senex_domain, senex_domain_aliases)"
    if answer.status in (301, 302, 308):
        return f"{answer.status} to {answer.location}: it does not see that the request came by https (SECURE_PROXY_SSL_HEADER), or knows another name"
    return f"answers {answer.status}" if answer.status else answer.error


def judge_web(data: dict[str, Answer], config, now: float) -> list[Finding]:
    """Each instance is alive."""
    found = []
    for unit, answer in data.items():
        name = unit.removesuffix(".service")
        if answer.status == 200:
            found.append(ok(f"web {name}", f"alive in {answer.seconds * 1000:.0f} ms"))
        else:
            found.append(fail(f"web {name}", why(answer, config.web.domain), f"senex logs {name}; senex restart {name}"))
    return found


def read_ready(host, config) -> Answer:
    """Database and Redis as the application sees them, by the first instance that is alive."""
    web, answer = config.web, Answer(0, "no instance is alive")
    for one in web.instances:
        answer = host.get(one.address, one.port, web.ready_path, web.domain, 2 * config.probe.timeout)
        if answer.status == 200:
            break
    return answer


def judge_ready(data: Answer, config, now: float) -> list[Finding]:
    """The readiness page is good. What the application looks at for it, nobody else knows; database and Redis have checks of their own."""
    if data.status == 200:
        only = "; it is the liveness page too" if config.web.ready_path == config.web.alive_path else ""
        return [ok("application", f"{config.web.ready_path} answers 200 in {data.seconds * 1000:.0f} ms{only}")]
    body = " ".join(data.body.split())[:200] if data.status == 503 else ""
    says = f"{config.web.ready_path} {why(data, config.web.domain)}{': ' + body if body else ''}"
    stands = [name for name in ("postgres", "redis") if f"{name}.service" in config.user_units]
    theirs = [f"{one.what} ({one.host}:{one.port})" for one in config.elsewhere]
    logs = "".join(f"; senex logs {name}" for name in stands)
    ask = f"senex status shows which of {', '.join(stands or ['database'])} and name resolution{logs}" if stands or not theirs else ""
    return [fail("application", says, "; ".join(filter(None, [ask, f"ask whoever has {', '.join(theirs)}" if theirs else ""])))]


def read_public(host, config) -> Answer:
    """The site through nginx."""
    public = config.public
    return host.get(public.address, public.port, public.path, public.domain, config.probe.timeout, True)


def judge_public(data: Answer, config, now: float) -> list[Finding]:
    """The site answers."""
    name = f"https://{config.public.domain}{config.public.path}"
    if data.status == 200:
        return [ok("public", f"{name} answers in {data.seconds * 1000:.0f} ms")]
    return [fail("public", f"{name}: {why(data, config.public.domain)}", "nginx -t; journalctl -u nginx -n 50; senex status for the instances behind it")]


def names_of(config) -> list[str]:
    """What a web container should find by name. Several, for a container that is stopped has none."""
    others = [one.unit.removesuffix(".service") for one in config.web.instances[1:]] if config.web else []
    return [part.container for part in (config.database, config.broker) if part] + others


def resolved(text: str) -> list[str]:
    """The names that getent has found. It has a line for each address, and writes the network's domain behind a name."""
    return list(dict.fromkeys(line.split()[-1].removesuffix(".dns.podman") for line in untrusted.records(text) if line.strip()))


def read_dns(host, config) -> dict:
    """The network's own resolver, asked from inside a web container."""
    container = config.web.instances[0].unit.removesuffix(".service")
    done = host.inside(container, "getent", "hosts", *names_of(config), timeout=8)
    return {"container": container, "code": done.code, "said": done.said, "found": resolved(done.out)}


def judge_dns(data: dict, config, now: float) -> list[Finding]:
    """Containers find each other. getent ends with 2 when a name is unknown; what else Podman says is no word about names."""
    if data["found"]:
        return [ok("dns", f"{data['container']} finds {', '.join(data['found'])}")]
    if data["code"] in (2, 124):
        says = f"{data['container']} finds none of {', '.join(names_of(config))}: the network's resolver (aardvark-dns) is dead or hangs"
        return [fail("dns", says, f"senex restart {data['container']} starts it again, as any container does")]
    return [warn("dns", f"could not be asked in {data['container']}: {data['said']}", f"senex logs {data['container']}")]


def read_outside(host, config) -> dict:
    """Whether what leads the containers out runs: before 5.0 one process for all of them, which Podman starts with the first one alone."""
    if not os.path.exists(SLIRP):
        return {}
    version = re.search(r"(\d+)\.\d+", host.podman("--version").out)
    if version is None:
        raise OSError("podman does not say its version")
    if int(version[1]) >= 5:
        return {}
    return {"running": host.processes("slirp4netns", "conmon"), "manager": f"user@{host.uid}.service"}


def judge_outside(data: dict, config, now: float) -> list[Finding]:
    """Where containers run, their way out does."""
    if not data:  # each network's own, which Podman 5 looks after
        return []
    if "conmon" in data["running"] and "slirp4netns" not in data["running"]:
        says = "slirp4netns has ended, so no container reaches anything outside this host; Podman before 5.0 does not start it again"
        return [fail(WAY_OUT, says, f"systemctl restart {data['manager']}; this restarts every container, and takes about 12 s")]
    return [ok(WAY_OUT, "slirp4netns leads the containers out")]


def read_containers(host, config) -> list[dict]:
    """Names, states and health of all containers."""
    done = host.podman("ps", "--all", "--format", "json")
    if done.code:
        raise OSError(done.said)
    rows = json.loads(done.out or "[]") or []
    servers = {part.container for part in (config.database, config.broker) if part} | ({CACHE} if config.broker else set())
    images = {row["Names"][0]: row.get("ImageID", "") for row in rows if row["Names"][0] in servers}
    made = host.image_times(sorted(set(images.values()) - {""}))
    return [
        {"name": name, "state": row["State"], "status": row.get("Status", ""), "made": made.get(images.get(name, ""))}
        for name, row in ((row["Names"][0], row) for row in rows)
    ]


def judge_containers(data: list[dict], config, now: float) -> list[Finding]:
    """Podman calls them all healthy."""
    bad = [one for one in data if one["state"] != "running" or "(unhealthy)" in one["status"]]
    images = [judge_image(one["name"], one["made"], config, now) for one in data if one.get("made")]
    if not bad:
        return [ok("containers", f"{len(data)} run and none is unhealthy"), *images]
    found = images + [
        fail(f"container {one['name']}", one["status"] or one["state"], f"senex logs {named(one['name'])}; senex restart {named(one['name'])}") for one in bad
    ]  # fmt: skip
    return few(found, "containers that do not run", "podman ps --all, as the service user")


def judge_image(name: str, made: int, config, now: float) -> Finding:
    """An image of a server that holds data is not left behind: nothing but an update brings another one."""
    says = f"of {datetime.datetime.fromtimestamp(made, datetime.UTC).date()}, {age(max(0, int(now - made)))} old"
    if now - made > config.limits.image_age * 86400:
        return warn(f"image {name}", f"{says}; minor releases have come since", "playbooks/update_images.yml shows what the registry has, and changes nothing")
    return ok(f"image {name}", says)


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


def read_redis(host, config) -> dict:
    """INFO as a dictionary, the length of each queue, and what workers hold."""
    broker = config.broker
    words = "".join(f"LLEN {queue}\n" for queue in broker.queues)
    info = as_reader(host, broker.container, "INFO\n", "")
    lengths = as_reader(host, broker.container, words, f'EVAL "{HELD}" 0 {broker.visibility_timeout:.0f}\n', "-n", str(broker.broker_database))
    said = lengths.out.split("\n")  # not splitlines: a task is called what it likes
    lines = [line.split() for line in said if line.split()]
    numbers = [int(words[-1]) for words in lines if words[-1].isdigit()]
    if info.code and (damaged := damaged_file(host, broker.container)):
        return {"damaged": damaged}
    if info.code or len(numbers) != len(broker.queues):  # a Redis without EVAL tells its lengths all the same
        raise OSError(f"redis-cli in {broker.container}: {(info if info.code else lengths).said}")
    rows = dict(line.strip().split(":", 1) for line in info.out.split("\n") if ":" in line)
    held = next((line.split(" ", 2) for line in said if line.startswith("held ")), ["held", "0", "[]"])
    return {"info": rows, "queues": dict(zip(broker.queues, numbers, strict=True)), "overdue": int(held[1]), "waiting": json.loads(held[2])}


def as_reader(host, container: str, words: str, script: str, *options: str):
    """What redis-cli answers the user that may only read. A Redis that was started before there was one is asked as before, without the script: an application
    can lead another user's script to do what that user may."""
    done = host.inside(container, "redis-cli", "--user", "_watchdog", "-e", *options, stdin=words + script)
    refused = "AUTH failed" in done.err or done.out.startswith("NOAUTH")  # INFO counts such answers to anybody
    return host.inside(container, "redis-cli", "-e", *options, stdin=words) if refused else done


def damaged_file(host, container: str) -> str:
    """The file that keeps Redis from starting, in its own words of the last minutes; empty where it is something else."""
    words = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--lines=200", "--since=-5min", f"_UID={host.uid}", f"CONTAINER_NAME={container}"]
    said = host.run(*words).out
    if "Ready to accept connections" in said.rpartition("Server initialized")[2]:
        return ""
    named = DAMAGED.findall(said)
    return named[-1] if named else "its log or its snapshot" if UNREADABLE.search(said) else ""


def moment(text: str) -> float:
    """Seconds of the clock; 0 for what is no time."""
    try:
        read = datetime.datetime.fromisoformat(text)
    except ValueError:
        return 0
    return (read if read.tzinfo else read.replace(tzinfo=datetime.UTC)).timestamp()


def judge_held(data: dict, config, now: float) -> list[Finding]:
    """Workers hold no task for longer than Redis leaves it to them."""
    timeout, found = config.broker.visibility_timeout, []
    if data["overdue"]:
        says = f"{data['overdue']} were handed out more than {age(int(timeout))} ago, not acknowledged and not taken back, as workers do that run"
        found.append(warn("tasks held", says, "senex logs celery-worker; senex restart celery-worker"))
    late = sorted({name for handed, eta, name in data["waiting"] if moment(eta) > float(handed) + timeout})
    if late:
        says = f"{', '.join(late)}: due later than senex_celery_visibility_timeout ({age(int(timeout))}) after a worker took it, so it will run more than once"
        found.append(warn("tasks with a countdown", says, "a shorter countdown, or a larger senex_celery_visibility_timeout; docs/user/celery.md"))
    return found


def judge_redis(data: dict, config, now: float) -> list[Finding]:
    """Redis answers, saves and has room; queues are short."""
    if "damaged" in data:
        do = "senex redis check says what can be saved; senex redis repair does it, and asks before"
        return [fail("redis", f"cannot start, for a file is damaged: {data['damaged']}", do)]
    info, found = data["info"], []
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    policy, evicted = info.get("maxmemory_policy", ""), int(info.get("evicted_keys", 0))
    memory = f"{size(used)} of {size(most)}" if most else size(used)
    if info.get("rdb_last_bgsave_status", "ok") != "ok" or info.get("aof_last_write_status", "ok") != "ok":
        found.append(fail("redis", "cannot save, so it refuses writes", "senex logs redis; disk space; senex redis-cli INFO persistence"))
    elif most and used > 0.95 * most:
        what = "evicts cache keys" if evicted else "has evicted nothing yet"
        level = warn if policy != "noeviction" and evicted else fail
        do = "raise redis_maxmemory, or see what fills it: senex redis-cli --bigkeys"
        found.append(level("redis", f"memory is full ({memory}, {policy}), it {what}", do))
    elif evicted:
        found.append(warn("redis", f"has evicted {evicted} keys since it started ({memory}, {policy})", "raise redis_maxmemory and redis_memory"))
    else:
        server, version = ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", info.get("redis_version", ""))
        found.append(ok("redis", f"{server} {version} answers, {memory}" if version else f"answers, {memory}"))
    long = {name: count for name, count in data["queues"].items() if count > config.broker.queue_limit}
    shown = ", ".join(f"{name} {count}" for name, count in (long or data["queues"]).items())
    if long:
        do = "senex logs celery-worker; senex restart celery-worker; more workers: senex_celery_workers"
        found.append(warn("queues", f"tasks wait: {shown} (limit {config.broker.queue_limit})", do))
    else:
        found.append(ok("queues", shown or "none"))
    return found + judge_held(data, config, now)


def read_elsewhere(host, config) -> list[dict]:
    """Somebody else's servers, and why one takes no connection."""
    return [{"what": one.what, "server": f"{one.host}:{one.port}", "says": one.says, "trouble": host.connects(one.host, one.port, config.probe.timeout)}
            for one in config.elsewhere]  # fmt: skip


def judge_elsewhere(data: list[dict], config, now: float) -> list[Finding]:
    """They are there; what else is known of them the application says."""
    return [
        fail(one["what"], f"{one['server']}, somebody else's server, takes no connection: {one['trouble']}", "ask whoever has it; is its firewall open?")
        if one["trouble"] else ok(one["what"], f"{one['server']}, somebody else's server, takes connections; {one['says']}")
        for one in data
    ]  # fmt: skip


CHECKS = [
    Check("web", read_web, judge_web, lambda config: config.web),
    Check("public", read_public, judge_public, lambda config: config.public),
    Check("ready", read_ready, judge_ready, lambda config: config.web),
    Check("containers", read_containers, judge_containers, lambda config: config.user_units),
    Check("outside", read_outside, judge_outside, lambda config: config.user_units),
    Check("dns", read_dns, judge_dns, lambda config: config.web and names_of(config)),
    Check("database", read_database, judge_database, lambda config: config.database),
    Check("redis", read_redis, judge_redis, lambda config: config.broker),
    Check("elsewhere", read_elsewhere, judge_elsewhere, lambda config: config.elsewhere),
    Check("beat", read_beat, judge_beat, lambda config: config.beat and config.database),
]

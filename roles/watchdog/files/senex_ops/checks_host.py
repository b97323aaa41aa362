"""Checks of the host itself: units, disk, memory, certificates, backups, the release lock, time, a pending reboot."""

from __future__ import annotations

import ctypes
import datetime
import json
import os
import re
import ssl
import statistics
import time

from senex_host import bounded, in_force, status, untrusted
from senex_host.host_layout import BACKUP_JOBS, BOOT, LEASE, RECOVERY_JOBS, STATUS, job_unit
from senex_host.host_layout import DEPLOY_LOCK as LOCK

from .findings import Check, Finding, age, fail, few, named, ok, size, warn

DAY = 86400
SOURCES = {"archive": "the archive on this host", "bucket": "the bucket alone", "dump": "the newest dump"}  # of a restore drill
DATA_OF = {"redis": "broker", "media": "web", **dict.fromkeys(("dump", "offsite-wal", *RECOVERY_JOBS), "database")}  # what a job saves, as the settings name it
UNPROVEN = 4  # times its age that a source may go without a proof: three are tried in turn
UNREACHED = ("masked", "disabled", "enabled-runtime")  # states of a unit's file
OF_NGINX = "/etc/nginx/senex/tls/*.crt"
CERTIFICATES = 50  # that are looked at: each is a process


def read_units(host, config) -> dict:
    """State of the expected units, and all units that failed. A manager that does not answer, such as the service user's, hides nothing of the other."""
    found: dict = {"user": {}, "system": {}, "failed": [], "silent": {}, "uptime": time.monotonic()}
    for scope, names in (("user", config.user_units), ("system", config.system_units)):
        try:
            found[scope], failed = host.seen(scope, names) if names or scope == "system" else ({}, [])
            found["failed"] += [(scope, name) for name in failed]
        except OSError as error:
            found["silent"][scope] = str(error)
    return found


def restart_word(scope: str, unit: str) -> str:
    """The command that restarts a unit."""
    return f"senex restart {unit.removesuffix('.service')}" if scope == "user" else f"systemctl restart {unit}"


def judge_units(data: dict, config, now: float) -> list[Finding]:
    """Expected units run; no other failed."""
    found, running = [], 0
    silent = data.get("silent", {})
    for scope, why in silent.items():
        found.append(fail(f"manager of the {scope}", f"its units cannot be read: {why}", "senex doctor; then look at what it names"))
    for scope in (scope for scope in ("user", "system") if scope not in silent):
        for name in config.user_units if scope == "user" else config.system_units:
            state = data[scope].get(name, {})
            active, sub = state.get("ActiveState", "unknown"), state.get("SubState", "")
            logs = f"senex logs {name.removesuffix('.service')}" if scope == "user" else f"journalctl -u {name} -n 50"
            if state.get("LoadState") == "not-found":
                found.append(fail(f"unit {name}", "is not on this host", f"run the playbook with the tag of its part; {logs}"))
            elif active == "active" and state.get("UnitFileState", "").startswith(UNREACHED) and not state.get("TriggeredBy"):
                how = "masked" if state["UnitFileState"].startswith("masked") else "not enabled"
                do = f"run the playbook with the tag of its part, which {'unmasks' if how == 'masked' else 'enables'} it"
                found.append(warn(f"unit {name}", f"runs and is {how}: the next start of the host does not bring it", do))
            elif active == "active":
                running += 1
            elif active in ("activating", "reloading", "deactivating"):
                moment = "ActiveExitTimestampMonotonic" if active == "deactivating" else "InactiveExitTimestampMonotonic"
                since = int(state[moment]) / 1e6 if re.fullmatch("[0-9]{1,18}", state.get(moment, "")) else 0.0
                spent = f" for {age(data['uptime'] - since)}" if since else ""
                found.append(warn(f"unit {name}", f"is {active} ({sub}){spent}", logs))
            else:
                found.append(fail(f"unit {name}", f"is {active} ({state.get('Result', '')})", f"{logs}; then {restart_word(scope, name)}"))
    expected = set(config.user_units) | set(config.system_units)
    for scope, where in (("system", "systemctl "), ("user", f"systemctl --user -M {config.user}@ ")):
        # Those of the user may have any name: apart from the units that are expected, so that no flood of them hides one of these
        kind = "unit" if scope == "system" else "user unit"
        others = [fail(f"{kind} {name}", "failed", f"{where}status {named(name)}; when mended {where}reset-failed {named(name)}")
                  for of, name in data["failed"] if of == scope and name not in expected]  # fmt: skip
        found += few(others, f"units of the {scope}", f"{where}--failed")
    return found + ([ok("units", f"{running} run, none failed")] if not found else [])


def read_disk(host, config) -> dict:
    """Size, room and inodes of each file system, once."""
    seen, silent = {}, {}
    for path, state in untrusted.space(config.disks).items():
        if trouble := untrusted.problem(state):
            silent[path] = f"cannot be read: {trouble}"  # it may be whoever's, and hides no other one
        if "device" in state:
            inodes = 100 * (1 - state["favail"] / state["files"]) if state["files"] else 0.0
            used = 100 * (1 - state["bavail"] / state["blocks"]) if state["blocks"] else 0.0
            seen.setdefault(state["device"], (path, {"used": used, "inodes": inodes, "free": state["bavail"] * state["frsize"]}))
    return {**dict(seen.values()), **silent}


def judge_disk(data: dict, config, now: float) -> list[Finding]:
    """Room on every file system."""
    found = []
    for path, state in data.items():
        if isinstance(state, str):
            found.append(fail(f"disk {path}", f"{path} {state}", "see what lies there; watchdog_disk_paths names what is looked at"))
            continue
        used, what = (state["inodes"], "out of inodes") if state["inodes"] > state["used"] else (state["used"], "full")
        says = f"{path} is {used:.0f} % {what}, {size(state['free'])} free"
        do = f"senex prune-images --keep 1; journalctl --vacuum-size=500M; old dumps in {config.home}/backups"
        if used >= config.limits.disk_fail:
            found.append(fail(f"disk {path}", says, do))
        elif used >= config.limits.disk_warn:
            found.append(warn(f"disk {path}", says, do))
        else:
            found.append(ok(f"disk {path}", says))
    return found


def read_memory(host, config) -> dict:
    """MemTotal and MemAvailable in kB."""
    with open("/proc/meminfo", encoding="ascii") as handle:
        rows = dict(line.split(":") for line in handle)
    return {name: int(rows[name].split()[0]) for name in ("MemTotal", "MemAvailable")}


def judge_memory(data: dict, config, now: float) -> list[Finding]:
    """Room in memory."""
    free = 100 * data["MemAvailable"] / data["MemTotal"]
    says = f"{free:.0f} % of {size(data['MemTotal'] * 1024)} available"
    if free < config.limits.memory_warn:
        return [warn("memory", says, "systemd-cgtop -m shows who has it; lower senex_memory_overrides or take a larger host")]
    return [ok("memory", says)]


def read_certificates(host, config) -> dict:
    """From when to when each certificate holds, in seconds since the epoch, by file and as nginx serves it; text where that cannot be read."""
    texts: dict[str, str] = {}
    found: dict[str, list[float] | str] = {}
    there = sorted(untrusted.matching(config.certificates, follow=True).items())
    if len(there) > CERTIFICATES:
        found[f"number {CERTIFICATES + 1} and later"] = f"not looked at: watchdog_certificates leads to {len(there)} files"
    for path, one in there[:CERTIFICATES]:
        if "content" in one:
            texts[path] = one["content"].decode(errors="replace")
        else:
            found[path] = f"cannot be read: {untrusted.problem(one)}"
    if config.public:
        name = f"{config.public.domain} (served)"
        try:
            texts[name] = served(config.public)
            if files := unread(texts[name], time.time()):
                found[f"{config.public.domain} (in use)"] = f"is not the one of {files}, which nginx has not read: systemctl reload nginx"
        except OSError as error:
            found[name] = f"not served: {error}"
    for name, text in texts.items():
        done = host.run("openssl", "x509", "-passin", "pass:", "-noout", "-dates", stdin=text)
        dates = dict(line.split("=", 1) for line in untrusted.records(done.out) if "=" in line)
        try:
            found[name] = [ssl.cert_time_to_seconds(dates[one]) for one in ("notBefore", "notAfter")]
        except (KeyError, ValueError):  # openssl calls "Bad time value" what somebody made by hand
            found[name] = f"is no certificate: {done.said}"
    return found


def served(public) -> str:
    """The certificate that nginx hands out now, which may be older than the file."""
    with bounded.connect(public.address, public.port, time.monotonic() + 5, bounded.unverified(), public.domain) as secure:
        return ssl.DER_cert_to_PEM_cert(secure.getpeercert(True) or b"")


def unread(served: str, now: float) -> str:
    """The files, where nginx hands out none of them: they were written, and it was not told. A reload takes some seconds."""
    texts = {path: one["content"].decode(errors="replace") for path, one in untrusted.matching([OF_NGINX]).items() if "content" in one}
    if not texts or first_certificate(served) in {first_certificate(text) for text in texts.values()}:
        return ""
    return " and ".join(sorted(texts)) if all(now - os.stat(path).st_mtime > 60 for path in texts) else ""


def first_certificate(text: str) -> str:
    """What is between the first two marks, however its lines are broken."""
    return "".join(text.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0].split())


def judge_certificates(data: dict, config, now: float) -> list[Finding]:
    """Enough is left of each one's life. A share of it, for some live a week and some a year; and of a long life no more than so many days."""
    found, limits = [], config.limits
    for name, dates in data.items():
        key, do = f"certificate {name}", "run the playbook (--tags postgresql,nginx); with Let's Encrypt: certbot renew, then systemctl reload nginx"
        if os.path.basename(name) == "ca.crt":
            do = "a new authority, for all at once: remove vault_ca_* from the vault, then playbooks/secrets.yml and site.yml (docs/operations/rotation.md)"
        if isinstance(dates, str):
            found.append(warn(key, dates, do))
            continue
        begin, end = dates
        left, life = end - now, end - begin
        says = f"{left / DAY:.0f} days left" if left >= 3 * DAY else f"{left / 3600:.0f} h left" if left >= 0 else f"expired {age(-left)} ago"
        if left < min(life * limits.certificate_fail_share / 100, limits.certificate_fail * DAY):
            found.append(fail(key, says, do))
        else:
            late = left < min(life * limits.certificate_warn_share / 100, limits.certificate_warn * DAY)
            found.append(warn(key, says, do) if late else ok(key, says))
    return found


def read_backups(host, config) -> list[dict]:
    """What the backup jobs wrote of their last run."""
    # The jobs write with their user's rights, and so may anything of that user's: other names are none, for a flood of them would hide all else
    paths = {job: status.path(f"{config.home}/{STATUS}", job) for job in sorted((*BACKUP_JOBS, *RECOVERY_JOBS))}
    seen = untrusted.read(paths.values())
    troubles = [untrusted.problem(one) for one in seen.values()]
    if all(troubles):
        raise troubles[0]
    found, gone = [], not_here(config, [job for job, path in paths.items() if "content" in seen[path]])
    for (job, path), trouble in zip(paths.items(), troubles, strict=True):
        if job in gone or (trouble is None and "content" not in seen[path]):
            continue
        try:
            data = json.loads(seen[path].get("content", b""))
        except (ValueError, RecursionError):
            data = None
        found.append(status_of(data if isinstance(data, dict) else {}, job))
    return found


def not_here(config, jobs: list[str]) -> list[str]:
    """Jobs that saved what this host had once: it has none of that by its settings, and no timer of theirs. What they wrote last says nothing of now."""
    timers = {job: f"{config.home}/.config/systemd/user/{job_unit(job, 'timer')}" for job in jobs if job in DATA_OF and not getattr(config, DATA_OF[job])}
    seen = untrusted.look(timers.values(), follow=False) if timers else {}
    return [job for job, path in timers.items() if "kind" not in seen[path] and untrusted.problem(seen[path]) is None]


def status_of(data: dict, job: str) -> dict:
    """What a status file may say, and nothing that could pass for something else on a screen."""
    words = {name: untrusted.plain(data[name]) for name in ("finished", "error") if data.get(name) is not None}
    numbers = {name: data[name] for name in ("bytes", "max_age_seconds") if is_number(data.get(name))}
    more = {"drills": drills(data)} if job == "drill" else {}
    return {"job": job, "result": data["result"] if data.get("result") in status.RESULTS else "unreadable", **words, **numbers, **more}


def is_number(value: object) -> bool:
    """One that can be reckoned with and shown."""
    return type(value) in (int, float) and abs(value) < 1e15


def drills(data: dict) -> dict:
    """{source: how its last drill went, and how long the good ones took}, in words and numbers alone."""
    sources = data["sources"] if isinstance(data.get("sources"), dict) else {}
    history = [one for one in data["history"][-100:] if isinstance(one, dict)] if isinstance(data.get("history"), list) else []
    found = {}
    for source in SOURCES:
        if isinstance(sources.get(source), dict):
            one = status_of(sources[source], source)
            proved = sources[source].get("proved")
            good = [other["rto_seconds"] for other in history
                    if other.get("source") == source and other.get("result") == "ok" and is_number(other.get("rto_seconds"))]  # fmt: skip
            found[source] = {**one, "proved": untrusted.plain(proved) if proved else None, "seconds": good}
    return found


def when(text) -> float | None:
    """ISO-8601 as seconds since the epoch."""
    try:
        moment = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def judge_backups(data: list[dict], config, now: float) -> list[Finding]:
    """Each job succeeded, and lately."""
    found = []
    if config.database and not data:
        return [warn("backups", "no job is installed, so nothing is backed up", "run the playbook with --tags backup,pitr")]
    for one in data:
        key, job = f"backup {one['job']}", one["job"]
        again = f"senex {'pitr' if job in RECOVERY_JOBS else 'backup'} {job}"
        do = f"journalctl _UID=$(id -u {config.user}) -g {job} -n 50; then run it again: {again}"
        finished, limit = when(one.get("finished")), one.get("max_age_seconds")
        troubles = judge_drills(one.get("drills") or {}, limit, key, now)
        found += troubles
        if any(trouble.key == key for trouble in troubles) or (troubles and one["result"] == "unverified"):
            continue
        if one["result"] == "never":
            found.append(warn(key, "has not run yet", f"wait for its timer, or run it: {again}"))
        elif one["result"] == "failed":
            found.append(fail(key, f"failed: {one.get('error') or 'it does not say why'}", do))
        elif one["result"] != "ok" or finished is None:
            found.append(fail(key, "its status file cannot be read", do))
        elif isinstance(limit, int | float) and now - finished > limit:
            found.append(fail(key, f"last done {age(now - finished)} ago, which is more than {age(limit)}", do))
        else:
            took = "".join(f"; {took_of(source, drill)}" for source, drill in (one.get("drills") or {}).items() if drill["seconds"])
            found.append(ok(key, f"done {age(max(0, now - finished))} ago, {size(one.get('bytes') or 0)}{took}"))
    return found


def took_of(source: str, drill: dict) -> str:
    """How long a restore takes, and how long it used to."""
    seconds = drill["seconds"]
    return f"{seconds[-1]:.0f} s from {SOURCES[source]}" + (f" (median of {len(seconds)}: {statistics.median(seconds):.0f} s)" if len(seconds) > 1 else "")


def judge_drills(data: dict, limit: object, key: str, now: float) -> list[Finding]:
    """What the sources of restores have shown: one that went well takes nothing back of what another has told.

    What could not be verified has a name of its own, for a trouble that is open is not told again, and a copy that does not restore is to be told.
    """
    failed, unsure = [], []
    for source, one in data.items():
        proved, again = when(one["proved"]), f"senex pitr drill --from {source}"
        long = isinstance(limit, int | float) and now - (proved or 0) > UNPROVEN * limit
        last = f"last proved {age(now - proved)} ago" if proved else "never proved"
        if one["result"] == "failed":
            says = f"failed: {one.get('error') or 'it does not say why'}; restored from {SOURCES[source]}"
            failed.append(fail(key, says, f"journalctl -g drill -n 50; then try it again: {again}"))
        elif one["result"] == "unverified" or (proved and long):
            why = one.get("error") or "it does not say why" if one["result"] == "unverified" else "nobody has tried"
            says = f"could not verify {SOURCES[source]} ({last}): {why}"
            unsure.append((fail if long else warn)(f"{key} from {source}", says, f"mend that, then try it again: {again}"))
    return failed[:1] + unsure


def read_release(host, config) -> dict | None:
    """Which operation holds the lock; of a damaged file, that it lies there and since when.

    site.yml, which restarts only what it changes and puts back what does not come up, is none.
    """
    try:
        with open(LOCK, encoding="utf-8") as handle:
            written = os.fstat(handle.fileno()).st_mtime
            found = json.load(handle)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not is_number(found.get("renewed")):
        return {"what": "a release whose lock is damaged", "renewed": written}
    return None if found.get("passing") else found


def left(holder: dict | None, now: float) -> float:
    """Seconds for which a lock still keeps the watchdog from restarts; 0 where there is none, where nobody renewed it, or where the host has started since:
    that start has begun everything anew, and a run that goes on renews it.
    """
    return 0.0 if holder is None or of_before(holder) else max(0.0, lease(holder) - unrenewed(holder, now))


def lease(holder: dict) -> float:
    """Seconds that a lock bears without being renewed."""
    return holder["lease"] if is_number(holder.get("lease")) else LEASE


def of_before(holder: dict) -> bool:
    """Whether a lock was last renewed before the host's last start."""
    return is_number(holder.get("uptime")) and isinstance(holder.get("boot"), str) and holder["boot"] != this_boot()


def unrenewed(holder: dict, now: float) -> float:
    """Seconds since a lock was renewed, as plugins/module_utils/host/release_record.py judges it: by a clock that nobody sets, where the lock has that; one of
    before the host's start is at least as old as that.
    """
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    if of_before(holder):
        return max(now - holder["renewed"], uptime)
    if is_number(holder.get("uptime")) and isinstance(holder.get("boot"), str):
        return max(0.0, uptime - holder["uptime"])
    return max(0.0, now - holder["renewed"])


def this_boot() -> str:
    """As plugins/module_utils/host/release_record.py notes it with a lock: gone after a reboot."""
    try:
        with open(BOOT, encoding="utf-8") as handle:
            return handle.read(100).strip()
    except (OSError, ValueError):
        return ""


def under_way(holder: dict | None, now: float) -> bool:
    """Whether a release goes on, by a lock that is renewed."""
    return left(holder, now) > 0


def judge_release(data: dict | None, config, now: float) -> list[Finding]:
    """No release, one under way, or the lock of a dead one."""
    if data is None:
        return [ok("release", "none under way")]
    what = f"{data.get('what', 'a release')} by {data.get('who', 'somebody')}, at '{data.get('step', '?')}'"
    if under_way(data, now):
        return [ok("release", f"under way: {what}; nothing is restarted meanwhile")]
    old = unrenewed(data, now)
    cut = f", cut off by a start of this host {age(time.clock_gettime(time.CLOCK_BOOTTIME))} ago" if of_before(data) else ""
    if cut and lease(data) > old:
        free = age(lease(data) - old)
        says = f"{what}{cut}, last renewed {age(old)} ago; whether it goes on elsewhere is not known here. Its lock keeps others out for another {free}"
        do = "where its machine still runs it, wait for its end; where not, run the same command again, with -e release_take_over=true from another machine"
        return [warn("release", says, do)]
    do = "ansible-playbook playbooks/deploy.yml … takes a dead lock over; look at senex releases for what was left"
    return [fail("release", f"its lock is stale, last renewed {age(old)} ago: {what}{cut}", do)]


class Timex(ctypes.Structure):
    """The beginning of struct timex (adjtimex(2)); the rest is room."""

    _fields_ = [("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
                ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("rest", ctypes.c_char * 256)]  # fmt: skip


def read_time(host, config) -> dict:
    """What the kernel thinks of its clock: works with every time daemon."""
    state = Timex()
    code = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state))
    return {"synchronised": code != 5 and not state.status & 0x40, "error_seconds": state.maxerror / 1e6}


def judge_time(data: dict, config, now: float) -> list[Finding]:
    """The clock is set by somebody."""
    if data["synchronised"]:
        return [ok("time", "synchronised")]
    return [warn("time", "the clock is not synchronised", "systemctl status systemd-timesyncd; are the servers of common_time_servers reachable (UDP 123)?")]


def read_reboot(host, config) -> dict:
    """Whether an update waits for a reboot, and of which packages."""
    packages = ""
    if os.path.exists("/run/reboot-required.pkgs"):
        with open("/run/reboot-required.pkgs", encoding="utf-8") as handle:
            packages = ", ".join(sorted(set(handle.read().split())))
    return {"pending": os.path.exists("/run/reboot-required"), "packages": packages}


def judge_reboot(data: dict, config, now: float) -> list[Finding]:
    """No reboot is due."""
    if data["pending"]:
        says = f"an update waits for one: {data['packages'] or 'see /run/reboot-required'}"
        return [warn("reboot", says, "reboot at a quiet time; everything comes back by itself")]
    return [ok("reboot", "none pending")]


def read_settings(host, config) -> list[dict]:
    """What is not in force of the settings that role common wants. Asked outside of the watchdog's sandbox, in which the kernel's are read-only."""
    if not os.path.exists(in_force.WANTED):
        return []
    program = ["/usr/bin/python3", "-IS", in_force.__file__]
    words = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--property=LogLevelMax=warning", "--"]
    done = host.run(*words, *program, timeout=90)
    if done.code:
        raise OSError(done.said)
    return json.loads(done.out)


def judge_settings(data: list[dict], config, now: float) -> list[Finding]:
    """Nothing overrides them."""
    do = "take it out there, or give role common the value that is wanted (docs/user/host.md); then run the playbook with --tags common"
    found = [warn(f"setting {one['setting']}", in_force.sentence({**one, "setting": ""}).strip(), do) for one in data]
    return found or [ok("settings", "in force as they were set")]


CHECKS = [
    Check("units", read_units, judge_units),
    Check("disk", read_disk, judge_disk),
    Check("memory", read_memory, judge_memory),
    Check("certificates", read_certificates, judge_certificates),
    Check("backups", read_backups, judge_backups),
    Check("release", read_release, judge_release),
    Check("time", read_time, judge_time),
    Check("reboot", read_reboot, judge_reboot),
    Check("settings", read_settings, judge_settings),
]

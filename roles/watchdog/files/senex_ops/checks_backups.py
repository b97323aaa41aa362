"""Checks of backups: what the jobs and the drills wrote of their last run."""

from __future__ import annotations

import datetime
import json
import statistics

from senex_host import status, untrusted
from senex_host.host_layout import RECOVERY_JOBS, STATUS, job_unit

from .findings import Check, Finding, Sample, age, fail, is_number, ok, size, warn

SOURCES = {"archive": "the archive on this host", "bucket": "the bucket alone", "dump": "the newest dump"}  # of a restore drill
FED_BY = {"offsite-wal": "wal"}  # has nothing to do where that one has not
UNPROVEN = 4  # times its age that a source may go without a proof: three are tried in turn


def read_backups(host, config) -> list[dict]:
    """What the backup jobs wrote of their last run."""
    # The jobs write with their user's rights, and so may anything of that user's: other names are none, for a flood of them would hide all else
    paths = {job: status.path(f"{config.home}/{STATUS}", job) for job in sorted(config.jobs)}
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
    """Jobs that saved what this host had once: it has no such component now, and no timer of theirs. What they wrote last says nothing of now."""
    timers = {job: f"{config.home}/.config/systemd/user/{job_unit(job, 'timer')}" for job in jobs if FED_BY.get(job, job) in config.jobs_of_others}
    seen = untrusted.look(timers.values(), follow=False) if timers else {}
    return [job for job, path in timers.items() if "kind" not in seen[path] and untrusted.problem(seen[path]) is None]


def status_of(data: dict, job: str) -> dict:
    """What a status file may say, and nothing that could pass for something else on a screen."""
    words = {name: untrusted.plain(data[name]) for name in ("finished", "error") if data.get(name) is not None}
    numbers = {name: data[name] for name in ("bytes", "max_age_seconds") if is_number(data.get(name))}
    more = {"drills": drills(data)} if job == "drill" else {}
    return {"job": job, "result": data["result"] if data.get("result") in status.RESULTS else "unreadable", **words, **numbers, **more}


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


def measure_backups(data: list[dict], now: float) -> list[Sample]:
    """Of each job and of each source of restores: whether it went well, and when."""
    found = []
    for one in data:
        label = {"job_name": one["job"]}
        if one["result"] != "never":
            found.append(Sample("backup_ok", one["result"] in ("ok", "unverified"), label))
        if (finished := when(one.get("finished"))) is not None:
            found.append(Sample("backup_finished_seconds", finished, label))
        if is_number(one.get("max_age_seconds")):
            found.append(Sample("backup_max_age_seconds", one["max_age_seconds"], label))
        if is_number(one.get("bytes")):
            found.append(Sample("backup_bytes", one["bytes"], label))
        for source, drill in (one.get("drills") or {}).items():
            found.append(Sample("drill_ok", drill["result"] in ("ok", "unverified"), {"source": source}))
            found += [Sample("drill_proved_seconds", proved, {"source": source}) for proved in [when(drill["proved"])] if proved is not None]
            found += [Sample("drill_took_seconds", seconds, {"source": source}) for seconds in drill["seconds"][-1:]]
    return found


CHECKS = [Check("backups", read_backups, judge_backups, measure=measure_backups)]

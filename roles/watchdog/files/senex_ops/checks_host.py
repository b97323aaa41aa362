"""Checks of the host itself: units, disk, memory, time, a pending reboot, settings."""

from __future__ import annotations

import ctypes
import json
import os
import re
import time

from senex_host import in_force, untrusted

from .findings import Check, Finding, Sample, age, fail, few, named, ok, size, warn

ENTERED = "ActiveEnterTimestampMonotonic"
COUNTED = {"unit_restarts": ("NRestarts", 1), "unit_memory_bytes": ("MemoryCurrent", 1), "unit_cpu_seconds": ("CPUUsageNSec", 1e9)}
UNREACHED = ("masked", "disabled", "enabled-runtime")  # states of a unit's file


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


def measure_units(data: dict, now: float) -> list[Sample]:
    """Of each expected unit when it started, how often it had to be restarted, what it takes. systemd has a word in place of what it does not count."""
    found = []
    for name, state in [*data["user"].items(), *data["system"].items()]:
        of = {"unit": name.removesuffix(".service")}
        numbers = {key: int(text) for key, text in state.items() if re.fullmatch("[0-9]{1,18}", text)}
        if state.get("ActiveState") == "active" and numbers.get(ENTERED):
            found.append(Sample("unit_started_seconds", round(now - data["uptime"] + numbers[ENTERED] / 1e6), of))
        found += [Sample(figure, numbers[key] / divisor, of) for figure, (key, divisor) in COUNTED.items() if key in numbers]
    return found


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
    Check("units", read_units, judge_units, interval=lambda probe: min(15, probe.slow_interval), measure=measure_units),
    Check("disk", read_disk, judge_disk),
    Check("memory", read_memory, judge_memory),
    Check("time", read_time, judge_time, interval=lambda probe: 10 * probe.slow_interval),
    Check("reboot", read_reboot, judge_reboot, measure=lambda data, now: [Sample("reboot_pending", data["pending"])]),
    Check("settings", read_settings, judge_settings, interval=lambda probe: 20 * probe.slow_interval),
]

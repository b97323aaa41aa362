"""Checks of the site as its visitors have it: errors that nginx answers by itself, and the server behind it."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import stat
from collections import Counter

from senex_host import untrusted
from senex_host.host_layout import CLOSING

from . import checks_release
from .findings import Check, Finding, Sample, age, fail, named, ok, warn

LOG = "/var/log/nginx/access.log"
MOST = 2 << 20  # bytes of its end that are read
SPAN = 300
QUANTILES = (0.5, 0.95)
CONTRACT = "/etc/nginx/senex/upstream.json"  # as role nginx writes it, and plugins/module_utils/nginx/nginx_upstream.py reads it
CLOSES = 60
TURN = 600  # seconds that a server may be left out without a release: site.yml replaces instances too
# As role nginx has it written. nginx escapes quotes and control characters of what a client sends, so no client writes a field of its own. A user's name
# may hold brackets, so the time is what stands in the last of them before the first quote
LINE = re.compile(r'(\S+) - [^"]* \[([^][]+)\] "[^"]*" (\d{3}) \d+ "[^"]*" "[^"]*" (host=.*) by=(\S+) id=\S+')
# In what of it follows the client's host name: the last one of these is nginx's own. Who was tried in vain stands before who answered
TOOK = re.compile(r".* rt=(\d+\.\d+) upstream=(?:\S+ )*?(\S+) us=\S")
NOBODY = "-"  # nginx itself, with a file or an error
OURS = ("127.0.0.1", "::1")  # the watchdog's own questions, and those of a release
ERRORS = ("500", "502", "504")  # 503 is the maintenance page
# What is asked inside a web container: which servers its image has
VERSIONS = """
import importlib.metadata as known
for name in ("daphne", "uvicorn", "gunicorn", "hypercorn"):
    try:
        print(name, known.version(name))
    except known.PackageNotFoundError:
        pass
"""
BAD = {
    "daphne": ((4, 2, 2), "takes WebSocket messages of any size (CVE-2026-44545), headers out of the values of others (CVE-2026-44546, kept away by nginx)"),
    "gunicorn": ((22, 0, 0), "lets requests be smuggled past nginx (CVE-2024-1135, CVE-2024-6827)"),
    "uvicorn": ((0, 11, 7), "lets headers be split (CVE-2020-7695)"),
}


def tail(path: str, most: int) -> tuple[str, bool]:
    """The end of a file, from the beginning of a line, and whether there is more before it."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as handle:
        info = os.fstat(handle.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise OSError(f"{path} is no file")
        handle.seek(max(0, info.st_size - most))
        text = handle.read(most)
    cut = info.st_size > most
    return (text.partition(b"\n")[2] if cut else text).decode(errors="replace"), cut


def counted(text: str, now: float, cut: bool = False) -> dict:
    """Requests of the last minutes, and which of them got an error that no instance had sent. `cut`: there is more before the text.

    Those that a limit refused are none: whoever floods the site writes as many as they like, and would hide what the others get.
    """
    seen, own, known, oldest = 0, Counter(), {}, now - SPAN
    answers: Counter = Counter()
    times: dict[str, list[float]] = {}
    for line in reversed(untrusted.records(text)):
        found = LINE.fullmatch(line)
        if not found:
            continue
        address, moment, status, rest, by = found.groups()
        if moment not in known:
            known[moment] = 0.0
            with contextlib.suppress(ValueError):
                known[moment] = datetime.datetime.strptime(moment, "%d/%b/%Y:%H:%M:%S %z").timestamp()
        if not known[moment]:  # no time of nginx's, so it says nothing of the lines before it
            continue
        if known[moment] < now - SPAN:
            break
        oldest = known[moment] if cut else oldest
        if address not in OURS and status != "429":
            seen += 1
            own.update([status] if by == "nginx" and status in ERRORS else [])
            if took := TOOK.match(rest):
                answers[took[2], f"{status[0]}xx"] += 1
                times.setdefault(took[2], []).append(float(took[1]))
    else:
        if cut:
            return {"seen": seen, "own": dict(sorted(own.items())), "span": max(1.0, now - oldest)}
    return {"seen": seen, "own": dict(sorted(own.items())), "answers": answers, "times": times}


def read_errors(host, config) -> dict:
    """From the end of nginx's log."""
    try:
        text, cut = tail(LOG, MOST)
    except FileNotFoundError:
        text, cut = "", False
    return counted(text, datetime.datetime.now(datetime.UTC).timestamp(), cut)


def judge_errors(data: dict, config, now: float) -> list[Finding]:
    """Visitors get the application's answers."""
    own, span = sum(data["own"].values()), data.get("span", SPAN)
    # Of a flood the end of the log shows some seconds alone: as many errors in these as make the number in all of the time, and no single one
    if own < max(min(3, config.limits.nginx_errors), config.limits.nginx_errors * span / SPAN):
        return [ok("nginx errors", f"{own} of {data['seen']} requests of the last {age(span)}")]
    kinds = ", ".join(f"{status} {count} times" for status, count in data["own"].items())
    says = f"{own} of {data['seen']} requests of the last {age(span)} got an error that no instance had sent ({kinds})"
    level = fail if own >= 0.2 * data["seen"] else warn
    return [level("nginx errors", says, f"tail /var/log/nginx/error.log | cat -v says why; grep by=nginx {LOG} shows whose; senex status for the instances")]


def measure_errors(data: dict, now: float) -> list[Sample]:
    """Of the last five minutes, by who answered; of a flood, whose beginning is not seen, in all alone."""
    found = [Sample("site_requests", data["seen"]), Sample("site_errors", sum(data["own"].values()))]
    named = {one: one if one != NOBODY else "nginx" for one, _ in data.get("answers", {})}
    found += [Sample("site_responses", count, {"upstream": named[one], "status": status}) for (one, status), count in data.get("answers", {}).items()]
    for one, seconds in data.get("times", {}).items():
        ordered = sorted(seconds)
        found += [Sample("site_seconds", ordered[int(share * (len(ordered) - 1))], {"upstream": named[one], "quantile": str(share)}) for share in QUANTILES]
    return found


def read_server(host, config) -> dict:
    """Versions of the servers in the image that runs, as far as Python there can be asked."""
    states = host.units("user", [one.unit for one in config.web.instances])
    running = [unit.removesuffix(".service") for unit, state in states.items() if state.get("ActiveState") == "active"]
    for python in ("python", "python3"):
        done = host.inside(running[0], python, "-c", VERSIONS) if running else None
        if done and done.code == 0:
            rows = [line.split() for line in untrusted.records(done.out)]
            return {words[0]: words[1] for words in rows if len(words) == 2 and re.fullmatch(r"\d[0-9A-Za-z.+!-]{0,40}", words[1])}
    return {}


def judge_server(data: dict, config, now: float) -> list[Finding]:
    """None of those that are known for a hole."""
    found = []
    for name, (good, says) in BAD.items():
        numbers = tuple(int(number) for number in re.findall(r"\d+", data.get(name, "").partition("+")[0])[:3])
        if numbers and numbers < good:
            wanted = ".".join(map(str, good))
            found.append(warn(f"server {name}", f"{data[name]} {says}", f"build the image with {name}>={wanted}, and release it"))
    return found or [ok("server", ", ".join(f"{name} {version}" for name, version in data.items()) or "is none whose version can be asked")]


def read_rotation(host, config) -> dict:
    """Which servers nginx leaves out, since when, and whether a release does that now."""
    try:
        with open(CONTRACT, encoding="utf-8") as handle:
            contract = json.load(handle)
        flags, servers = str(contract["flags"]), [str(one) for one in contract["servers"]]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise OSError(f"{CONTRACT} cannot be read ({type(error).__name__}): run site.yml") from None
    out = {}
    for name in sorted(os.listdir(flags)) if os.path.isdir(flags) else []:
        with contextlib.suppress(FileNotFoundError):
            out[name] = os.lstat(f"{flags}/{name}").st_mtime
    closing = 0.0
    with contextlib.suppress(FileNotFoundError):
        closing = os.lstat(CLOSING).st_mtime
    now = datetime.datetime.now(datetime.UTC).timestamp()
    return {
        "closing": closing,
        "flags": flags,
        "servers": servers,
        "out": out,
        "release": checks_release.under_way(checks_release.read_release(host, config), now),
    }


def judge_rotation(data: dict, config, now: float) -> list[Finding]:
    """No server is left out of nginx's rotation by a run that is over."""
    long = [] if data.get("release") else [name for name, since in data.get("out", {}).items() if not 0 <= now - since < TURN]
    in_turn = [server for server in data.get("servers", []) if not {server, re.sub(r":[0-9]+$", "", server)} & set(data["out"])]
    found = []
    for name in long:
        says = f"gets no requests since {age(max(0.0, now - data['out'][name]))}, and no release is under way: left so by hand, or by a run that was cut off"
        do = f"run site.yml, or rm {named(data['flags'])}/{named(name)} when it answers"
        found.append((warn if in_turn else fail)(f"rotation {untrusted.plain(name, 100)}", says + ("" if in_turn else "; no server is left"), do))
    if data.get("closing") and not 0 <= now - data["closing"] < CLOSES:
        says = f"tells clients that their connections end since {age(max(0.0, now - data['closing']))}: a reload was cut off"
        found.append(warn("nginx reload", says, "systemctl reload nginx"))
    return found or [ok("rotation", f"{len(in_turn)} of {len(data.get('servers', []))} servers get requests")]


CHECKS = [
    Check("rotation", read_rotation, judge_rotation, lambda config: config.public),
    Check("errors", read_errors, judge_errors, lambda config: config.public, measure=measure_errors),
    Check("server", read_server, judge_server, lambda config: config.web, interval=lambda probe: 3600),
]

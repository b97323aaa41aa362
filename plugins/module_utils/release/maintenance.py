"""The site closed for as long as a release takes: nginx shows the maintenance page, by files that it looks for with each request."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import time

from ansible_collections.senex.trader.plugins.module_utils.host import bounded, fileset
from ansible_collections.senex.trader.plugins.module_utils.nginx import nginx_upstream
from ansible_collections.senex.trader.plugins.module_utils.release import traffic_probe

DIRECTORY = "/etc/nginx/senex"  # of role nginx, whose site.conf.j2 looks for both
PAGE = "maintenance.on"  # visitors get the page; an operator may have put it there
STOPPED = "stopped.on"  # and nothing is behind nginx: it answers the health paths itself. What is to be remembered is in it
SHOWS = 10  # looks at whether nginx does, half a second apart


def notes(directory: str = DIRECTORY) -> dict:
    """What a release that closed the site and has not opened it wrote down; nothing where none did."""
    content = fileset.read(os.path.join(directory, STOPPED))[0]
    if content is None:
        return {}
    try:
        found = json.loads(content)
        return {"id": str(found["id"]), "since": float(found["since"]), "theirs": bool(found["theirs"]), "migrations": list(map(str, found["migrations"]))}
    except (ValueError, LookupError, TypeError, RecursionError):  # made by hand: as much as can be known
        return {"id": "", "since": time.time(), "theirs": False, "migrations": []}


def close(identifier: str, migrations: list[str], target: dict, directory: str = DIRECTORY) -> dict:
    """Show the page, and wait until what is under way has ended. What an earlier release closed stays closed since then, with its migrations."""
    page, stopped = (os.path.join(directory, name) for name in (PAGE, STOPPED))
    before = notes(directory)
    theirs = before["theirs"] if before else fileset.read(page)[0] is not None
    names = list(dict.fromkeys([*before.get("migrations", []), *migrations]))
    found = {"id": identifier, "since": before.get("since", time.time()), "theirs": theirs, "migrations": names}
    owner = (0o644, os.geteuid(), os.getegid())
    fileset.swap([(stopped, json.dumps(found).encode(), owner), *([] if theirs else [(page, b"", owner)])])
    if problem := _not_shown(target):
        if not before:
            fileset.swap([(stopped, None, owner), *([] if theirs else [(page, None, owner)])])
        raise OSError(f"nginx does not show the maintenance page, so nothing was stopped: {problem}. Run playbooks/site.yml first, which configures it")
    _requests_end(float(target["drain"]))
    return {"since": found["since"], "migrations": names}


def reopen(directory: str = DIRECTORY) -> dict:
    """Let visitors in again; for how many seconds they were not, and whether an operator's own page keeps them out."""
    found = notes(directory)
    if not found:
        return {"seconds": 0.0, "theirs": False}
    owner = (0o644, os.geteuid(), os.getegid())
    gone = [] if found["theirs"] else [(os.path.join(directory, PAGE), None, owner)]
    fileset.swap([*gone, (os.path.join(directory, STOPPED), None, owner)])
    return {"seconds": round(time.time() - found["since"], 1), "theirs": found["theirs"]}


def _not_shown(target: dict) -> str:
    """What is wrong with what visitors and load balancers get; empty when both get what they have to."""
    headers, problem = {"Host": target["domain"], "User-Agent": "senex-prober"}, ""
    for look in range(SHOWS):
        problem = ""
        for path, wanted in (("/", 503), *([(target["alive"], 200)] if target["alive"] != "/" else [])):
            try:
                answer = bounded.ask(target["address"], int(target["port"]), path, headers, target["timeout"], traffic_probe.context(), target["domain"])
                right = answer.status == wanted and (wanted == 503 or answer.body.startswith(b"maintenance"))
                problem = problem or ("" if right else f"{path} gave {answer.status} {answer.reason}")
            except (OSError, http.client.HTTPException) as error:
                problem = problem or f"{path}: {type(error).__name__}: {error}"
        if not problem:
            return ""
        time.sleep(0.5 if look + 1 < SHOWS else 0)
    return problem


def _requests_end(seconds: float) -> None:
    """Requests that were in when the page came get their answer. WebSockets do not end by themselves, and are cut then."""
    servers = []
    with contextlib.suppress(OSError):
        servers = nginx_upstream.read_contract(nginx_upstream.CONTRACT)["servers"]
    end, quiet = time.monotonic() + seconds, 0
    while quiet < nginx_upstream.QUIET_POLLS and time.monotonic() < end:
        quiet = 0 if nginx_upstream.connections(servers) else quiet + 1
        time.sleep(nginx_upstream.POLL)

"""Units of the application on one host, stopped for an operation. Their names are saved on the host until they are in service again."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable

from ansible_collections.senex.trader.plugins.module_utils.host import fileset, host_layout, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import ServiceUser
from ansible_collections.senex.trader.plugins.module_utils.release import traffic_probe

PLACE = os.path.join(fileset.MANIFESTS, os.path.basename(host_layout.STOPPED_UNITS))
PATTERNS = ("celery-*.service", "web-*.service")
UNIT = re.compile(r"(celery|web)-[a-z0-9-]+\.service")
SAVED = re.compile(r"[a-z][a-z0-9-]*\.service")
LONGEST = 6 * 3600  # seconds that a worker may take to end what it has
ROUNDS = 20  # looks at whether it serves, a second apart


def _listed(user: ServiceUser, processes: list[str], *question: str) -> list[str]:
    own = [f"{name}-*.service" for name in processes]
    said = user.systemctl(*question, "--plain", "--no-legend", *PATTERNS, *own, check=False).stdout
    return [line.split()[0] for line in untrusted.records(said) if line.split()]


def _known(units: list[str], processes: list[str]) -> list[str]:
    """Of these units, those of the application: a pattern matches more."""
    own = re.compile("|".join(rf"{re.escape(name)}-[0-9]+\.service" for name in processes) or "(?!)")
    return [unit for unit in units if UNIT.fullmatch(unit) or own.fullmatch(unit)]


def remembered(place: str = PLACE) -> list[str]:
    """Units that were stopped here and are not in service yet."""
    content = fileset.read(place)[0] or b""
    return [unit for unit in content.decode(errors="replace").split() if SAVED.fullmatch(unit)]


def stop_units(
    user: ServiceUser,
    more: list[str],
    stop: bool = True,
    place: str = PLACE,
    processes: list[str] | None = None,
    maintenance: bool = False,
    web: bool = True,
) -> list[str]:
    """Stop what runs, and save what has to be started again, also what an earlier run stopped and did not start. Returns the units.
    `processes`: names of those that the application has beside workers; without `web` the web instances go on. In `maintenance` the watchdog leaves them
    alone, also when the run is dead."""
    own = processes or []
    there = set(_listed(user, own, "list-unit-files"))
    running = [unit for unit in _listed(user, own, "list-units", "--state=active,activating") if web or not unit.startswith("web-")]
    surge = [unit for unit in running if unit.endswith("-next.service")]  # stand in for a moment, and have not to come back
    running = [unit for unit in running if unit not in surge]
    units = list(dict.fromkeys(_known([*running, *(unit for unit in [*remembered(place), *more] if unit in there)], own)))
    if units:
        fileset.swap([(place, ("\n".join([*([host_layout.MAINTENANCE] if maintenance else []), *units]) + "\n").encode(), (0o600, os.geteuid(), os.getegid()))])
        if stop:
            user.systemctl("stop", *units, *surge, timeout=LONGEST)
    return units


def start_units(user: ServiceUser, target: dict, migrate: bool, place: str = PLACE, still: Callable[[], None] = lambda: None) -> tuple[list[str], list[str]]:
    """Start what was stopped; returns the units and the errors. The saved list is removed only if all are in service."""
    units = remembered(place)
    web = [unit for unit in units if unit.startswith("web-")]
    starts = [["release.service"]] if migrate and web else []
    # The web tier waits for its own health, so this returns when it answers
    starts += [group for group in ([*web, *(unit for unit in units if unit not in web)],) if group]
    troubles = []
    for group in starts:
        still()
        done = user.systemctl("start", *group, check=False, timeout=LONGEST)
        troubles += [done.stderr.strip()] if done.returncode else []
    if web:
        for number in range(ROUNDS):
            problems = [found for path in target["paths"] if (found := traffic_probe.ask(target, path))]
            if not problems or troubles:  # what did not start is not waited for
                break
            time.sleep(1 if number < ROUNDS - 1 else 0)
        troubles += problems
    if not troubles and untrusted.kind(place, follow=False):
        os.unlink(place)
    return units, troubles

"""What the traffic probe of a release has seen, asked each time an instance serves again: whether the release may go on."""

from __future__ import annotations

import os
import time

from ansible_collections.senex.trader.plugins.module_utils.host import fileset
from ansible_collections.senex.trader.plugins.module_utils.release import traffic_probe

# Ten requests of the traffic probe, some of which meet the unit
PROBE_SECONDS = 1.0
# Suffix of a file next to the traffic probe's: how many of its failures happened during expected downtime, and do not count
EXPECTED_DOWNTIME = ".forgiven"


def unit_ready(unit: dict, alone: bool, forward: bool) -> str:
    """For the engine, which calls it of each unit that is ready again (quadlet_restart.UnitReady)."""
    if alone:
        exclude_expected_downtime(unit)
    return traffic_gate_error(unit) if forward else ""


def exclude_expected_downtime(unit: dict) -> None:
    """Nobody served while the only instance restarted. What the traffic probe saw fail until now does not count against the release."""
    wanted = unit.get("traffic_gate")
    if wanted:
        time.sleep(PROBE_SECONDS)  # until it has written down its last failure
        failed = traffic_probe.latest(fileset.read(wanted["results_file"])[0]).get("failed", 0)
        fileset.swap([(wanted["results_file"] + EXPECTED_DOWNTIME, str(int(failed)).encode(), (0o644, os.geteuid(), os.getegid()))])


def traffic_gate_error(unit: dict) -> str:
    """Why the deploy has to stop: the traffic probe has seen more failed requests than it may, now that the unit is ready. Empty when it has not."""
    wanted = unit.get("traffic_gate")
    if not wanted or wanted.get("evaluate", "per_unit") == "at_end":
        return ""
    time.sleep(PROBE_SECONDS)
    seen = traffic_probe.latest(fileset.read(wanted["results_file"])[0])
    said = fileset.read(wanted["results_file"] + EXPECTED_DOWNTIME)[0] or b""
    forgiven = int(said) if said.isdigit() else 0
    if seen.get("failed", 0) - forgiven <= int(wanted["max_failed"]):
        return ""
    last = "; ".join(seen.get("failures", [])[-3:])
    beside = f" beside the {forgiven} while the only instance restarted" if forgiven else ""
    return (
        f"{seen['failed'] - forgiven} of {seen.get('requests', 0)} requests of the traffic probe failed{beside}, {wanted['max_failed']} may; the last: {last}"
    )

"""Findings of hosts for a person."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.senex.trader.plugins.module_utils.host import untrusted

# Shown of a fleet too where they are well: which version of PostgreSQL and Redis runs, and how old its image is
VERSIONS = re.compile(r"database|redis|image .+")


def status_lines(hosts: list) -> list:
    """One screen: of a single host every finding, of a fleet what is not well, and versions; below each what to do."""
    if not hosts:
        return ["no host answered; the command senex is there once the role operator_cli has run"]
    lines = []
    for host in sorted(hosts, key=lambda one: one["host"]):
        found = host["findings"]
        counts = {level: sum(one["level"] == level for one in found) for level in ("FAIL", "WARN", "OK")}
        lines.append(f"{host['host']} ({host['environment']}): {', '.join(f'{count} {level}' for level, count in counts.items() if count)}")
        for one in found:
            if len(hosts) == 1 or one["level"] != "OK" or VERSIONS.fullmatch(one["key"]):
                lines.append(f"  {one['level']:4}  {one['key']}: {one['says']}")
                lines += [f"        -> {one['do']}"] if one["do"] else []
    return lines


def refusal_findings(message: str, key: str) -> list:
    """A finding for each line of a refusal; its heading, which ends with a colon, is none."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    told = [line for line in lines if not line.endswith(":")] or lines
    return [{"key": key, "level": "FAIL", "says": line, "do": ""} for line in told]


def preflight_hosts(hosts: list, variables: dict, environment: str) -> list:
    """What was found at each host that could be asked; `variables` has those of every host."""
    asked = [(name, variables[name]) for name in hosts if "__preflight_asked" in variables[name]]
    found = [(name, there["senex_preflight"], there["__preflight_asked"]) for name, there in asked]
    return [{"host": name, "environment": environment, "findings": [*own, *world["findings"]]} for name, own, world in found if "findings" in world]


def printable(text: object, line: bool = False) -> str:
    """What a program said, for the message of a task: Ansible puts that on the screen as it is, and whoever said it may not be root.

    `line`: it stands in a line of ours, and begins none of its own.
    """
    return untrusted.lines(text).replace("\n", " ") if line else untrusted.lines(text)


def failure_reason(result: object) -> str:
    """Why a task failed: what its module said; of a loop, what each item that failed said, for Ansible says of that only that items failed.

    Items of a task that hides its words (no_log) say nothing.
    """
    if isinstance(result, Mapping):
        items = result.get("results")
        shown = [one for one in items if isinstance(one, Mapping)] if isinstance(items, list) and not result.get("_ansible_no_log") else []
        failed = [one for one in shown if (one.get("failed") or one.get("unreachable")) and not one.get("_ansible_no_log")]
        said = list(dict.fromkeys(failure_reason(one) for one in failed)) or [str(result.get("msg") or "").strip()]
        return "; ".join(filter(None, said)) or "see the task that failed"
    return str(result or "").strip() or "see the task that failed"


class FilterModule:
    """Filters."""

    def filters(self) -> dict:
        """By name."""
        return {
            "failure_reason": failure_reason, "status_lines": status_lines, "refusal_findings": refusal_findings, "preflight_hosts": preflight_hosts,
            "printable": printable,
        }  # fmt: skip

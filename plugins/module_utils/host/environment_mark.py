"""Which environment a host belongs to: role common writes its name, user and home, and a run of another environment changes nothing there."""

from __future__ import annotations

PLACE = "/etc/senex-trader/environment"
# A line each, in this order
NAMES = ("senex_environment", "senex_user", "senex_home")


def refusal(environment: str) -> str:
    """Why the run of an environment may not change this host; empty where it may, and where nothing says whose the host is."""
    try:
        with open(PLACE, encoding="utf-8", errors="replace") as handle:
            here = handle.read(2000).split("\n")
    except OSError:
        return ""
    other = [(name, was, is_) for name, was, is_ in zip(NAMES, here, environment.split("\n"), strict=False) if was and is_ and was != is_]
    if not other:
        return ""
    differs = ", ".join(f"{name} of this run is {is_} and not {was}" for name, was, is_ in other)
    return (
        f"this host belongs to the environment {here[0]}: {differs}. Look at ansible_host in the inventory, and at -i. A host has one environment, for units, "
        f"ports, nginx and firewall are there once. If the host is to be another one's from now on, remove {PLACE} on it"
    )

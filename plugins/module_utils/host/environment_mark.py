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
    other = {name: (was, is_) for name, was, is_ in zip(NAMES, here, environment.split("\n"), strict=False) if was and is_ and was != is_}
    if not other:
        return ""
    differs = ", ".join(f"{name} of this run is {is_} and not {was}" for name, (was, is_) in other.items())
    found = f"this host belongs to the environment {here[0]}: {differs}"
    if "senex_environment" not in other:
        back = " and ".join(f"{name}: {was}" for name, (was, _) in other.items())
        return (
            f"{found}. Its data, units and backups are there ({PLACE}), and a run with another place would begin an empty one beside it, at the same ports. "
            f"Write {back} into the inventory again. A disk is mounted below the home, which stays where it is (docs/user/host.md). "
            f"If this is a second environment of the same name, it needs a host of its own"
        )
    renamed = not any(name in other for name in NAMES[1:]) and len(here) > 2 and environment.count("\n") > 1
    return (
        f"{found} ({PLACE}). Look at ansible_host in the inventory, and at -i. Two environments do not share a host, for units, ports, nginx and firewall are "
        f"there once: give this one a host of its own. If {here[0]} is to leave the host, playbooks/remove.yml with its inventory does that, and keeps its data"
        + f". If it has only another name from now on, write that name into the first line of {PLACE}"
        * renamed
    )

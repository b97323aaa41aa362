"""Which environment a host belongs to: role common writes its name, user and home, and a run of another environment changes nothing there."""

from __future__ import annotations

PLACE = "/etc/senex-trader/environment"


def refusal(environment: str, owner: str = "") -> str:
    """Why a run of an environment may not change this host; empty where it may, and where nothing says whose the host is."""
    try:
        with open(PLACE, encoding="utf-8", errors="replace") as handle:
            here, _, owned = handle.read(4000).strip().partition("\n")
    except OSError:
        return ""
    if not here or not environment:
        return ""
    if here == environment and owned and owner and owned != owner:
        return (
            f"this host has the environment {here} with the user and home {owned}, and the run has {owner} (senex_user, senex_home)."
            " A host has one environment: units, ports, nginx and the firewall are there once. Take the user and home that are there, or another host"
        )
    if here == environment:
        return ""
    return (
        f"this host belongs to the environment {here}, and the run is of {environment} (senex_environment). Look at ansible_host in its inventory, and at -i. "
        f"If the host is to be of {environment} from now on, remove {PLACE} on it"
    )

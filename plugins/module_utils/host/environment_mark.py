"""Which environment a host belongs to: role common writes its name, and a run of another environment changes nothing there."""

from __future__ import annotations

PLACE = "/etc/senex-trader/environment"


def refusal(environment: str) -> str:
    """Why a run of an environment may not change this host; empty where it may, and where nothing says whose the host is."""
    try:
        with open(PLACE, encoding="utf-8", errors="replace") as handle:
            here = handle.read(200).strip()
    except OSError:
        return ""
    if not here or not environment or here == environment:
        return ""
    return (
        f"this host belongs to the environment {here}, and the run is of {environment} (senex_environment). Look at ansible_host in its inventory, and at -i. "
        f"If the host is to be of {environment} from now on, remove {PLACE} on it"
    )

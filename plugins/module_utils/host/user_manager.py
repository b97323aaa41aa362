"""The manager of the service user's units: what its clients need to reach it, and what it answers.

Standard library alone, and no import from __future__: role common installs this file with the library of the programs on the host (senex_host), and the engine
imports it.
"""

ROOT_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def runtime(uid: int) -> str:
    """Directory of what lasts as long as the user's manager."""
    return f"/run/user/{uid}"


def addresses(uid: int) -> dict[str, str]:
    """What systemctl and Podman find the manager by; neither sudo nor runuser sets them."""
    return {"XDG_RUNTIME_DIR": runtime(uid), "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime(uid)}/bus"}


def environment(name: str, uid: int, home: str) -> dict[str, str]:
    """What a command of the user needs, and nothing of root's own."""
    return {**ROOT_ENVIRONMENT, "HOME": home, "USER": name, "LOGNAME": name, **addresses(uid)}


def verbatim(argv: list[str]) -> list[str]:
    """A command line as systemd-run is given it: of that it fills in $NAME and ${NAME} from the manager's environment, and nothing where there is none."""
    return [word.replace("$", "$$") for word in argv]


def properties(text: str) -> list[dict[str, str]]:
    """What `systemctl show` prints of each unit, in the order asked. By line ends alone: a value may hold what splitlines takes for one."""
    blocks = [dict(line.split("=", 1) for line in block.split("\n") if "=" in line) for block in text.split("\n\n")]
    return [block for block in blocks if block]

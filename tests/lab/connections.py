"""Shared ssh connections to test hosts: a login costs host and client a tenth of a second of a processor each, and tests make thousands."""

from settings import RUNTIME, SSH_CONFIG
from shell import run

# A short path, for ssh takes no more than 100 characters
SOCKETS = RUNTIME / "ssh"


def options():
    """Lines of ssh_config(5): one connection serves all commands until a minute after the last."""
    SOCKETS.mkdir(mode=0o700, parents=True, exist_ok=True)
    return f"  ControlMaster auto\n  ControlPath {SOCKETS}/%n\n  ControlPersist 60\n  ServerAliveInterval 5\n"


def end(name):
    """Before a host goes: a connection to one that went without a word would be waited on."""
    run("ssh", "-F", SSH_CONFIG, "-O", "exit", name, check=False)

"""What every container that is started by `podman run` is held to: no capability, none to be had, and the collection's own filter of system calls.

Standard library alone, and no import from __future__: roles common (senex_host) and redis install this file. Units have the
same from templates/quadlet.j2.
"""

SECCOMP = "/etc/senex-trader/seccomp.json"  # root's, by role podman
OPTIONS = ("--cap-drop=all", "--security-opt=no-new-privileges", f"--security-opt=seccomp={SECCOMP}")

"""Where things lie on a host that several programs know, what they are called, and how long a lock lasts.

Standard library alone, and no import from __future__: role common installs this file with the library of the programs on the host (senex_host), and the engine
imports it.
"""

LIBRARY = "/usr/local/lib/senex-trader"

# Root's state, which outlives a reboot, and what does not
STATE = "/var/lib/senex.trader"
RUNTIME = "/run/senex.trader"

# Units of the application that an operation stopped; with this word before them nobody but the next release starts them
STOPPED_UNITS = f"{STATE}/application-rests"
MAINTENANCE = "maintenance"

# Who changes the host now, and what was released (release_record.py)
LOCK, RECORDS = "deploy.lock", "releases.jsonl"  # by name, for whoever has another directory of state
DEPLOY_LOCK = f"{STATE}/{LOCK}"
RELEASES = f"{STATE}/{RECORDS}"
# A controller that dies between two steps leaves the lock behind for that long; a step renews it while it lasts
LEASE = 1800
# The same for site.yml and its like, which whoever finds it may take over after a shorter while: each component that is applied asks anew
PASSING_LEASE = 600
BOOT = f"{RUNTIME}/boot"
CLOSING = f"{RUNTIME}/nginx-closing"  # there while a reload of nginx is about to come

# What makes units of the service user's files, in the order in which it is looked for; package after package put it elsewhere
GENERATORS = ("/usr/libexec/podman/quadlet", "/usr/lib/podman/quadlet", "/usr/lib/systemd/user-generators/podman-user-generator")

# Below the service user's home: the last result of each job
STATUS = "backups/status"
RECOVERY_JOBS = ("base", "wal", "drill")
RECEIVER = "pitr-receive.service"


def job_unit(job: str, kind: str = "service") -> str:
    """The unit or timer that runs a job."""
    return f"{'pitr' if job in RECOVERY_JOBS else 'backup'}-{job}.{kind}"

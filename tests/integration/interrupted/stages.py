"""The moments of each operation at which something may happen: the stage's name, the play, its how-manieth, the task, and the hosts."""

from dataclasses import dataclass

ONE, TWO = "molecule-web-one", "molecule-web-two"
BOTH = (ONE, TWO)
LOCK = "Acquire the deploy lock; the watchdog pauses"
SERVES = "Start the application (downtime ends)"


@dataclass(frozen=True)
class Moment:
    operation: str
    stage: str
    play: str
    round: int
    task: str
    host: str

    def __str__(self):
        return f"{self.operation}, {self.stage}, {self.host.removeprefix('molecule-')}"


# The first task of a stage, and where a stage changes a host the one after the change
STAGES = {
    "deploy": [
        ("prepare", "Acquire the deploy lock, pull the image, start the traffic probe", 1, "Acquire the deploy lock", BOTH),
        ("plan", "Check migrations and deploy windows with the new image", 1, "", (ONE,)),
        ("dump", "Dump the database before migrations", 1, "", (ONE,)),
        ("web", "Replace the web instances", 1, "", (TWO, ONE)),
        ("web, replaced", "Replace the web instances", 1, "Put this host back in service", BOTH),
        ("celery", "Replace workers, then Beat", 1, "Put workers and Beat in place", (ONE,)),
        ("verify", "Verify the site from outside", 1, "", (ONE,)),
        ("record", "Write the release history and release the deploy lock", 1, "Write the release history", BOTH),
    ],
    "rotate": [
        ("lock", "Acquire the deploy lock for the rotation", 1, "", BOTH),
        ("accept, serves", "Update PostgreSQL, Redis and backups for this stage", 1, "Put PostgreSQL in place", (ONE,)),
        ("accept, web", "Update the web instances for this stage", 1, "", (TWO, ONE)),
        ("accept, workers", "Update workers, then Beat, for this stage", 1, "Put workers", (ONE,)),
        ("accept, verify", "Verify the old and new values for this stage", 1, "", BOTH),
        ("use, serves", "Update PostgreSQL, Redis and backups for this stage", 2, "Put PostgreSQL in place", (ONE,)),
        ("use, web, replaced", "Update the web instances for this stage", 2, "Put this host back in service", BOTH),
        ("use, workers", "Update workers, then Beat, for this stage", 2, "Put workers", (ONE,)),
        ("refuse, serves", "Update PostgreSQL, Redis and backups for this stage", 3, "Put PostgreSQL in place", (ONE,)),
        ("refuse, verify", "Verify the old and new values for this stage", 3, "Log in as a client", BOTH),
        ("unlock", "Release the deploy lock on every host", 1, "", BOTH),
    ],
    "restore": [
        ("lock", LOCK, 1, "", BOTH),
        ("prepare", "Restore into a copy while the application is in service", 1, "", (ONE,)),
        ("rests", "Stop the application (downtime starts)", 1, "", BOTH),
        ("rests, stopped", "Stop the application (downtime starts)", 1, "Record that this host has completed the stage", BOTH),
        ("switch", "Swap the restored copy with the production data", 1, "", (ONE,)),
        ("serves", SERVES, 1, "", BOTH),
        ("unlock", "Release the deploy lock on every host", 1, "", BOTH),
    ],
    "upgrade": [
        ("lock", LOCK, 1, "", BOTH),
        ("prepare", "Prepare the upgrade while the application is in service", 1, "", (ONE,)),
        ("rests", "Stop the application (downtime starts)", 1, "", BOTH),
        ("switch", "Copy the data and switch to the new cluster", 1, "", (ONE,)),
        ("serves", SERVES, 1, "", BOTH),
        ("after", "Finish the operation while the application is in service", 1, "", (ONE,)),
        ("unlock", "Release the deploy lock on every host", 1, "", BOTH),
    ],
}  # fmt: skip


def moments(*operations, each_host=True):
    """All of them; or each stage at one host alone, which is the one without the data where there is a choice."""
    return [
        Moment(operation, stage, play, number, task, host)
        for operation in operations or STAGES
        for stage, play, number, task, hosts in STAGES[operation]
        for host in (hosts if each_host else hosts[-1:])
    ]

"""The moments of each operation at which something may happen: the stage's name, the play, its how-manieth, the task, and the hosts."""

from dataclasses import dataclass

ONE, TWO = "molecule-web-one", "molecule-web-two"
BOTH = (ONE, TWO)
LOCK = "Nothing else is done, and no watchdog starts anything, meanwhile"
SERVES = "The application serves again, however it went"


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
        ("prepare", "Lock, image, and users' requests, counted from here to the end", 1, "Take the lock", BOTH),
        ("plan", "Migrations and windows, asked of the new image", 1, "", (ONE,)),
        ("dump", "A dump of the database", 1, "", (ONE,)),
        ("web", "Web tier", 1, "", (TWO, ONE)),
        ("web, replaced", "Web tier", 1, "Come back into the rotation", BOTH),
        ("celery", "Workers, and Beat last", 1, "Put workers and Beat in place", (ONE,)),
        ("verify", "Look at it from outside", 1, "", (ONE,)),
        ("record", "Record and unlock", 1, "Write the record", BOTH),
    ],
    "rotate": [
        ("lock", "Nothing else is done meanwhile", 1, "", BOTH),
        ("accept, serves", "What serves", 1, "Put PostgreSQL in place", (ONE,)),
        ("accept, web", "The web tier", 1, "", (TWO, ONE)),
        ("accept, workers", "Workers, and Beat last", 1, "Put workers", (ONE,)),
        ("accept, verify", "What only shows when all of it is done", 1, "", BOTH),
        ("use, serves", "What serves", 2, "Put PostgreSQL in place", (ONE,)),
        ("use, web, replaced", "The web tier", 2, "Come back into the rotation", BOTH),
        ("use, workers", "Workers, and Beat last", 2, "Put workers", (ONE,)),
        ("refuse, serves", "What serves", 3, "Put PostgreSQL in place", (ONE,)),
        ("refuse, verify", "What only shows when all of it is done", 3, "Ask as a client", BOTH),
        ("unlock", "Others may begin again", 1, "", BOTH),
    ],
    "restore": [
        ("lock", LOCK, 1, "", BOTH),
        ("prepare", "Restore beside what serves", 1, "", (ONE,)),
        ("rests", "The application rests", 1, "", BOTH),
        ("rests, stopped", "The application rests", 1, "Confirm it", BOTH),
        ("switch", "Put it in place", 1, "", (ONE,)),
        ("serves", SERVES, 1, "", BOTH),
        ("unlock", "Others may begin again", 1, "", BOTH),
    ],
    "upgrade": [
        ("lock", LOCK, 1, "", BOTH),
        ("prepare", "All that can be done while the application serves", 1, "", (ONE,)),
        ("rests", "The application rests", 1, "", BOTH),
        ("switch", "One cluster takes the place of the other", 1, "", (ONE,)),
        ("serves", SERVES, 1, "", BOTH),
        ("after", "What comes after", 1, "", (ONE,)),
        ("unlock", "Others may begin again", 1, "", BOTH),
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

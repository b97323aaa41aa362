"""What fails and does not end a run is told: a task without failures leaves a result that something else reads."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
FILES = {path: path.read_text() for place in ("playbooks", "roles") for path in sorted((ROOT / place).rglob("*.yml"))}
# Of one round of several: the next one asks again, and a lock that cannot be given up ends by its lease
UNTOLD = {
    "Release the acquired deploy locks",
    "Release it again, because the first host's lock is taken first",
    "Wait for the deploy lock of the busy host",
}
NESTED = ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always")


def tasks(entries):
    """Every task of a file, those in blocks too."""
    for one in entries or []:
        yield one
        for name in NESTED:
            yield from tasks(one.get(name))


def test_a_task_without_failures_leaves_what_another_reads():
    silent = []
    for path in [path for path, text in FILES.items() if "failed_when: false" in text or "ignore_errors" in text]:
        for task in [task for task in tasks(yaml.safe_load(FILES[path])) if task.get("failed_when") is False or task.get("ignore_errors")]:
            told = task.get("register") and sum(text.count(task["register"]) for text in FILES.values()) > 1
            silent += [] if told else [task["name"]]
    assert set(silent) == UNTOLD

"""A dump restored under the running application: what users wrote until the dump is there, what came after is kept aside, and everything works."""

import json
import os

from stack import HOME, wait


def restore(stack, **inputs):
    return stack.play(playbook="playbooks/restore.yml", tags="all", variables=inputs)


def test_the_application_works_with_the_restored_database(stack, figure):
    stack.post("/api/rows/", {"text": "before the dump"})
    rows = "select count(*) from probe_row"
    query = ["podman", "exec", "postgres", "psql", "-XAtU", "senex"]
    before = stack.user(*query, "-d", "senex", "-c", rows)
    made = stack.play(playbook="playbooks/backup.yml", tags="all").expect()
    dump = os.path.basename(json.loads(stack.sh(f"cat {HOME}/backups/status/dump.json"))["what"])
    assert dump.startswith("manual-") and made.changed
    stack.post("/api/rows/", {"text": "after the dump"})

    asked = restore(stack, restore_dump=dump).expect()
    assert asked.changed == [] and stack.user(*query, "-d", "senex", "-c", rows) != before
    starts = stack.starts()
    done = restore(stack, restore_dump=dump, restore_confirm=True).expect()
    assert not {"postgres", "redis", "nginx"} & set(stack.moved(starts))
    stack.ready(60)
    figure("restore_dump_seconds", done.wall)
    assert stack.user(*query, "-d", "senex", "-c", rows) == before
    databases = stack.user(*query, "-d", "postgres", "-c", "select datname from pg_database").split()
    (aside,) = [name for name in databases if name.startswith("senex_before_restore_")]
    assert int(stack.user(*query, "-d", aside, "-c", rows)) == int(before) + 1
    stack.user(*query, "-d", "postgres", "-c", f"drop database {aside}")

    number = stack.post("/api/rows/", {"text": "after the restore"})["number"]
    assert number > int(before)
    stack.task_runs()
    beat = "select extract(epoch from now() - max(last_run_at)) < 120 from django_celery_beat_periodictask"
    wait(lambda: stack.user(*query, "-d", "senex", "-c", beat).strip() == "t", 120, "Beat goes on")

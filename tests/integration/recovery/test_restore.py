"""The database restored under the running application: what users wrote until then is there, what came after is kept aside, and everything works."""

import json
import os

from stack import HOME, UID, wait


def restore(stack, **inputs):
    return stack.play(playbook="playbooks/restore.yml", tags="all", variables=inputs)


def test_the_application_works_with_the_restored_database(stack, figure):
    stack.post("/api/rows/", {"text": "before the dump"})
    rows = "select count(*) from probe_row"
    query = ["podman", "exec", "postgres", "psql", "-XAtU", "postgres"]
    before = stack.user(*query, "-d", "senex", "-c", rows)
    made = stack.play(playbook="playbooks/backup.yml", tags="all").expect()
    dump = os.path.basename(json.loads(stack.sh(f"cat {HOME}/backups/status/dump.json"))["what"])
    assert dump.startswith("manual-") and made.changed
    stack.post("/api/rows/", {"text": "after the dump"})
    assert stack.user(*query, "-d", "senex", "-c", rows) != before
    starts = stack.starts()
    done = restore(stack, restore_dump=dump, restore_confirm=True).expect()
    assert not {"postgres", "redis", "nginx"} & set(stack.moved(starts))
    stack.ready()
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


def test_the_application_works_with_the_database_of_an_earlier_moment(stack):
    stack.sh("senex pitr base --first", timeout=300)
    kept = stack.post("/api/rows/", {"text": "before the moment"})["number"]
    # The moment is the one that a release writes down before it changes anything
    made = stack.play(playbook="tests/integration/recovery/restore_point.yml", tags="all").expect()
    moment = dict(made.results)["Name the point"]["restore_point_at"]
    stack.post("/api/rows/", {"text": "after the moment"})
    inputs = {"restore_from": "pitr", "restore_to": moment}
    assert json.loads(stack.get("/api/rows/")[1])["newest"]["number"] > kept
    # Until the archive has seen a later moment, this one cannot be proven whole
    wait(lambda: stack.ssh(f"senex pitr plan --to '{moment}'").returncode == 0, 180, "the archive", pause=1)
    wait(lambda: restore(stack, **inputs, restore_confirm=True).code == 0, 180, "the restore", pause=5)
    stack.ready()
    assert json.loads(stack.get("/api/rows/")[1])["newest"]["number"] == kept
    aside = stack.sh(f"ls -d {HOME}/data/postgres.before-restore-*").split()
    assert len(aside) == 1
    stack.task_runs()
    stack.sh(f"cd /; runuser -u senex -- env XDG_RUNTIME_DIR=/run/user/{UID} podman unshare rm -rf {aside[0]}")


def test_media_and_redis_come_back_under_the_application(stack):
    """Containers that have the directory mounted, and nginx that serves from it, see what was restored."""
    path = f"{HOME}/data/media/kept.txt"

    def write(text):
        stack.user("podman", "unshare", "sh", "-c", f"echo {text} >{path} && chown 1000:1000 {path} && chmod 644 {path}")

    write("before")
    stack.sh("senex backup media && senex backup redis", timeout=120)
    write("after")
    restore(stack, restore_media="newest", restore_confirm=True).expect()
    stack.ready()
    assert stack.get("/media/kept.txt")[1].strip() == "before"
    restore(stack, restore_redis="newest", restore_confirm=True).expect()
    stack.ready()
    stack.task_runs()
    beat = ["podman", "exec", "postgres", "psql", "-XAtU", "senex", "-d", "senex", "-c"]
    wait(lambda: stack.user(*beat, "select max(last_run_at) > now() - interval '2 minutes' from django_celery_beat_periodictask").strip() == "t", 150, "Beat")

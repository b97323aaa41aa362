"""The server is gone. A new one that has had nothing but site.yml gets the database back from the bucket, with the secrets of the lost one and nothing else.

The new one is of the inventory for production, so that this too is seen to bring up a host from nothing; the lost one was the demo. A clone of the lost one
lives on: of the same machine id and the same cluster, it sends to the same bucket, and last.
"""

import json
import re
import subprocess
import time
from datetime import UTC, datetime

import environments
import pytest
from stack import HOME, LAB, UID, Stack, environment, wait

pytestmark = pytest.mark.faults
NEW, ALIKE = "recovery-new", "recovery-alike"
SETTINGS = f"{HOME}/config/backup/settings.json"
PSQL = ["podman", "exec", "postgres", "psql", "-XAtU", "postgres"]


def rows(stack):
    """The application's table, row by row; what is in them is sealed with a key of the vault."""
    return stack.user(*PSQL, "-d", "senex", "-c", "select id || ' ' || md5(sealed::text) from probe_row order by id").splitlines()


def newest(stack):
    """The newest row's words, as the application opens them."""
    return json.loads(stack.get("/api/rows/")[1])["newest"]["text"]


def system(stack):
    return stack.user(*PSQL, "-d", "senex", "-c", "select system_identifier from pg_control_system()").strip()


def works(stack):
    """A page, a row written, a task run."""
    stack.ready(120)
    stack.post("/api/rows/", {"text": "on the new host"})
    stack.task_runs()


@pytest.fixture(scope="module")
def lost(stack, storage):
    """What the old host held when it was lost: at its last dump, at a moment after it, and its machine's name in the bucket."""
    stack.sh("senex pitr base --first", timeout=300)
    stack.post("/api/rows/", {"text": "before the dump"})
    stack.sh("senex backup dump", timeout=120)
    dumped = rows(stack)
    stack.sh("senex backup offsite", timeout=300)
    stack.post("/api/rows/", {"text": "before the moment"})
    time.sleep(1.5)  # the moment is said in whole seconds
    moment = stack.sh("date -u '+%Y-%m-%d %H:%M:%S+00'").strip()
    time.sleep(1.5)
    kept = rows(stack)
    stack.post("/api/rows/", {"text": "after the moment"})
    name = stack.sh("hostname").strip()
    return {"name": name, "dumped": dumped, "moment": moment, "kept": kept, "system": system(stack), "machine": stack.sh("cat /etc/machine-id")}


@pytest.fixture(scope="module")
def alike(stack, storage, lost):
    """The clone: its own rows, and copies of its own of everything."""
    subprocess.run([LAB, "down", ALIKE], capture_output=True, check=False)
    try:
        subprocess.run([LAB, "up", ALIKE, "--from", "stack"], capture_output=True, text=True, check=True)
        found = Stack(ALIKE)
        found.sh(f"hostname {ALIKE}; echo {ALIKE} >/etc/hostname; echo {lost['machine'].strip()} >/etc/machine-id")
        found.ready(120)
        found.play(tags="backup", variables=storage).expect()
        found.post("/api/rows/", {"text": "of the clone"})
        found.sh("senex pitr base --first", timeout=300)
        found.sh("senex backup dump && senex backup offsite", timeout=300)
        assert system(found) == lost["system"] and rows(found) != lost["dumped"]
        found.sh("senex backup offsite-wal", timeout=120)
        yield found
    finally:
        subprocess.run([LAB, "down", ALIKE], capture_output=True, check=False)


@pytest.fixture(scope="module")
def production(tmp_path_factory):
    """Its copies in the bucket are those of the lost host."""
    return environments.filled("production", tmp_path_factory.mktemp("inventory"), {"backup_offsite_host": "demo"})


@pytest.fixture(scope="module")
def new(stack, storage, lost, alike, production):
    """An empty machine, and site.yml. The old one writes and sends until the end, and is then killed."""
    subprocess.run([LAB, "down", NEW], capture_output=True, check=False)
    try:
        address = subprocess.run([LAB, "up", NEW, "--image", "host-ready"], capture_output=True, text=True, check=True).stdout.split()[-1]
        done = subprocess.run(Stack.command_at(address, variables=storage, inventory=production), env=environment(), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=900, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:]
        sent = f"{HOME}/backups/status/offsite-wal.json"
        wait(lambda: json.loads(stack.sh(f"cat {sent}"))["finished"] > lost["moment"].replace(" ", "T"), 120, "WAL sent under its timer")
        lost["at"] = time.time()
        stack.sh(f"systemctl mask -q --runtime user@{UID}.service; systemctl kill -s KILL user@{UID}.service")
        found = Stack(NEW, environments.domain(production), production)
        found.ready(120)
        yield found
    finally:
        subprocess.run([LAB, "down", NEW], capture_output=True, check=False)


def restore(stack, storage, **inputs):
    return stack.play(playbook="playbooks/restore.yml", tags="all", variables={**storage, "restore_fetch": True, **inputs}, timeout=900)


def copies(stack):
    """{id: tags} of everything in the bucket."""
    return {one["id"]: set(one["tags"]) for one in json.loads(stack.sh("senex backup restic snapshots --json"))}


DUMP, LATEST = {"restore_dump": "newest"}, {"restore_from": "pitr", "restore_to": "latest"}


def refused(stack, command, message):
    """What the playbook would run says no, and why."""
    done = stack.ssh(command, timeout=120)
    assert done.returncode and message in done.stdout + done.stderr, done.stdout + done.stderr


def test_the_new_host_is_of_production(new):
    """Its own domain and names, and a Redis for the cache alone."""
    assert new.domain == "www.senex.test" and new.healthy()
    assert "redis-cache" in new.user("podman", "ps", "--format", "{{.Names}}").split()
    assert "production" in new.sh(f"cat {HOME}/config/pitr/barman.conf")
    assert "celery-worker@production-1" in new.user("systemctl", "--user", "cat", "celery-worker.service")


def test_what_cannot_be_is_refused(new, storage, lost):
    before = (system(new), rows(new))
    new.sh(f"cp -a {HOME}/config/backup/passphrase /root/; echo another-passphrase >{HOME}/config/backup/passphrase")
    try:
        for way in (DUMP, LATEST):
            play = restore(new, storage, **way, restore_confirm=True)
            said = " ".join(play.errors)
            assert play.code and "backup_passphrase does not open the repository" in said and "Nothing was changed" in said, said
    finally:
        new.sh(f"cp -a /root/passphrase {HOME}/config/backup/")
    new.sh(f"""cp -a {SETTINGS} /root/; sed -i 's/"host": "demo"/"host": "elsewhere"/' {SETTINGS}""")
    try:
        for command in ("senex backup fetch", "senex pitr fetch --to latest"):
            refused(new, command, "the repository holds no copy of elsewhere with a dump; it holds copies of demo")
    finally:
        new.sh(f"cp -a /root/settings.json {SETTINGS}")
    fetch = f"senex pitr fetch --snapshot on-{lost['name']} --to"
    refused(new, f"{fetch} '2026-01-01 12:00:00+00'", "the oldest base backup was complete at")
    later = datetime.fromtimestamp(time.time() - 1, UTC).strftime("%Y-%m-%d %H:%M:%S+00")
    refused(new, f"{fetch} '{later}'", "no later moment can be restored from it")
    assert (system(new), rows(new)) == before


def test_beside_a_clone_nothing_is_taken_unasked(new, storage, lost, alike):
    """Neither by itself nor by the machine id, which both have."""
    before = (system(new), rows(new))
    (machine,) = {tag for tags in copies(new).values() for tag in tags if tag.startswith("machine-") and f"on-{lost['name']}" in tags}
    assert machine in {tag for tags in copies(new).values() if f"on-{ALIKE}" in tags for tag in tags}
    for way in (DUMP, LATEST):
        for named in ({}, {"restore_copy": machine}):
            play = restore(new, storage, **way, **named, restore_confirm=True)
            said = " ".join(play.errors)
            assert play.code and "copies of several machines" in said and f"by {lost['name']} " in said and f"by {ALIKE} " in said, said
    assert (system(new), rows(new)) == before


def test_the_dump_comes_back(new, storage, lost, figure):
    play = restore(new, storage, restore_dump="newest", restore_copy=f"on-{lost['name']}", restore_confirm=True).expect()
    figure("new host: dump restored from the bucket", play.wall)
    assert rows(new) == lost["dumped"]
    new.ready(120)
    assert newest(new) == "before the dump"
    works(new)


def test_a_point_in_time_comes_back(new, storage, lost, figure):
    inputs = {"restore_from": "pitr", "restore_to": lost["moment"], "restore_copy": f"on-{lost['name']}"}
    asked = restore(new, storage, **inputs).expect()
    assert asked.changed == []
    until = re.search(r"with WAL until ([0-9: -]+) UTC", json.dumps([result.get("msg") for _, result in asked.results]))[1]
    behind = lost["at"] - datetime.fromisoformat(f"{until}+00:00").timestamp()
    figure("new host: WAL missing in the bucket when the old one was killed", behind)
    # The interval, and a run of a machine that does other things
    assert behind < storage["backup_offsite_wal_interval"] + 120
    empty = system(new)
    play = restore(new, storage, **inputs, restore_confirm=True).expect()
    figure("new host: point in time restored from the bucket", play.wall)
    assert (system(new), rows(new)) == (lost["system"], lost["kept"])
    new.ready(120)
    assert newest(new) == "before the moment"
    works(new)
    (data,) = new.sh(f"ls -d {HOME}/data/postgres.before-restore-*").split()
    (archive,) = new.sh(f"ls -d {HOME}/backups/barman.before-restore-*").split()
    assert data.rpartition("-")[2] == archive.rpartition("-")[2]
    assert empty in new.sh(f"cat {archive}/main/identity.json")


def test_archive_and_bucket_go_on_and_the_lost_hosts_history_stays(new, storage, lost):
    before = copies(new)
    new.sh("senex pitr wal && senex pitr check", timeout=180)
    new.sh("senex backup offsite", timeout=300)
    new.sh("senex backup offsite-check", timeout=600)
    new.sh("senex pitr drill --from bucket", timeout=600)
    drill = json.loads(new.sh(f"cat {HOME}/backups/status/drill.json"))
    assert (drill["result"], drill["source"]) == ("ok", "bucket") and drill["migrations"] and drill["sources"]["bucket"]["proved"]
    assert "from the bucket alone" in new.ssh("senex status").stdout
    after = copies(new)
    gone = {key: tags for key, tags in before.items() if key not in after}
    assert not [tags for tags in gone.values() if f"on-{lost['name']}" in tags], "the lost host's history is thinned out"
    fresh = [tags for key, tags in after.items() if key not in before and "senex" in tags]
    assert fresh and all("on-recovery-new" in tags for tags in fresh)
    # This machine's own are the ones to take from now on
    plan = new.sh("senex pitr fetch --plan --to latest", timeout=120)
    assert "by recovery-new" in plan and json.loads(new.sh(f"cat {HOME}/backups/status/base.json"))["what"] in plan

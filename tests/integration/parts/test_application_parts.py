"""Volumes and processes of the application on a host: mounted, released, restarted, copied and removed as the rest of it."""

import json

import pytest
from releases import SETTINGS, deploy, release
from stack import AS_USER, HOME, failures, wait

pytestmark = pytest.mark.faults

# Says in the volume that it runs, and that it was asked to end
PROGRAM = (
    "import os, signal, sys, time; place = '/srv/parcels/' + os.environ['INSTANCE']; "
    "signal.signal(signal.SIGTERM, lambda *_: (open(place + '.ended', 'w').close(), sys.exit())); "
    "open(place, 'w').close(); [time.sleep(1) for _ in iter(int, 1)]"
)
VOLUMES = [
    {"name": "parcels", "mount": "/srv/parcels", "backup": True},
    {"name": "models", "mount": "/srv/models", "parts": ["feed"], "read_only": True},
]
FEED = {"name": "feed", "command": ["python3", "-c", PROGRAM], "count": 2, "health_command": ["test", "-e", "/srv/parcels"], "stop_timeout": 10}
INPUTS = {**SETTINGS, "senex_application_volumes": VOLUMES, "senex_application_processes": [FEED]}
PLACE, UNITS = f"{HOME}/data/volumes", f"{HOME}/.config/containers/systemd"


@pytest.fixture(scope="module")
def served(stack):
    yield stack.play(variables=INPUTS).expect() and stack
    if "feed-" in stack.sh(f"ls {UNITS}"):  # the last test did not come to its end
        stack.play(variables=SETTINGS).expect()


def images(stack):
    """Which image each process runs."""
    return {unit: stack.user("podman", "inspect", "--format", "{{.ImageName}}", unit).strip().rpartition(":")[2] for unit in ("feed-1", "feed-2")}


def test_who_mounts_a_volume_finds_it(served):
    assert served.play(variables=INPUTS).expect().changed == []
    assert {"feed-1", "feed-2"} <= set(served.sh(f"ls {PLACE}/parcels").split())
    assert served.sh(f"stat -c '%a %U' {PLACE}/parcels").split()[0] == "700"
    web = served.user("podman", "exec", "web-1", "ls", "/srv").split()
    assert "parcels" in web and "models" not in web
    refused = served.ssh(f"{AS_USER} podman exec feed-1 touch /srv/models/x 2>&1")
    assert refused.returncode != 0 and "Read-only" in refused.stdout
    assert served.get("/parcels/feed-1")[0] == 404 == served.get("/media/../volumes/parcels/feed-1")[0]


def test_its_operators_know_a_process(served):
    assert {"feed-1", "feed-2"} <= set(served.sh("senex parts").split())
    served.sh(f"rm -f {PLACE}/parcels/feed-1.ended; senex restart feed-1", timeout=90)
    assert served.sh(f"ls {PLACE}/parcels/feed-1.ended") and not failures(served.ssh("senex status").stdout)
    said = served.sh("senex logs feed -n 200")
    assert "feed-1" in said and "feed-2" in said and "web-1" not in said


def test_a_release_replaces_processes_and_ends_them_by_their_signal(served):
    served.sh(f"rm -f {PLACE}/parcels/*.ended")
    deploy(served, "2", timeout=900, **INPUTS).expect()
    assert images(served) == {"feed-1": "2", "feed-2": "2"}
    assert {"feed-1.ended", "feed-2.ended"} <= set(served.sh(f"ls {PLACE}/parcels").split())
    release(served, "rollback", timeout=900, release_undo_migrations=True, **INPUTS).expect()
    assert images(served) == {"feed-1": "1", "feed-2": "1"}


def test_a_process_that_ends_at_once_is_not_put_in_place(served):
    broken = {**FEED, "command": ["false"], "health_command": []}
    play = served.play(variables={**INPUTS, "senex_application_processes": [broken]})
    assert play.code != 0 and any("feed-1.service did not come up" in line for line in play.errors)
    wait(lambda: images(served) == {"feed-1": "1", "feed-2": "1"}, 60, "the processes of before")


def test_a_kept_volume_is_restored_with_the_uploads(served):
    def write(text):
        served.user("podman", "exec", "feed-1", "sh", "-c", f"echo {text} >/srv/parcels/note")

    write("before")
    served.sh("senex backup media", timeout=120)
    write("after")
    served.play(playbook="playbooks/restore.yml", tags="all", variables={**INPUTS, "restore_media": "newest", "restore_confirm": True}).expect()
    assert served.sh(f"cat {PLACE}/parcels/note").strip() == "before"
    assert "after" in served.sh(f"cat {PLACE}/parcels/.before-restore-*/note")
    assert json.loads(served.user("podman", "inspect", "--format", "{{json .State.Running}}", "feed-2"))
    # What is in use goes on being copied, and what was put aside is not
    assert ".before-restore" not in served.sh(f"senex backup media && ls -A {HOME}/backups/media/$(ls {HOME}/backups/media | tail -1)/files/.volumes/parcels")


def test_what_is_taken_out_of_the_list_is_stopped_and_its_files_stay(served):
    served.play(variables={**INPUTS, "senex_application_processes": [{**FEED, "count": 1}]}).expect()
    running = served.user("podman", "ps", "--format", "{{.Names}}").split()
    assert "feed-1" in running and "feed-2" not in running
    served.play(variables=SETTINGS).expect()
    assert "feed-" not in served.sh(f"ls {UNITS}") and served.sh(f"ls {PLACE}/parcels/note")

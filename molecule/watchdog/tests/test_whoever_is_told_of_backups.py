"""Jobs of backups that fail under their timers reach whoever is on call, once. Last of all, for the roles pitr and backup are applied here."""

import json

import pytest
from parts import FICKLE, HOME, SYSTEMCTL, Part, apply, eventually

pytestmark = pytest.mark.faults
# Nobody listens there
AWAY = {
    "backup_offsite_repository": "s3:https://127.0.0.1:9/bucket/senex", "backup_offsite_access_key": "molecule-access-key",
    "backup_offsite_secret_key": "molecule-secret-key", "backup_passphrase": "molecule-backup-passphrase", "backup_offsite_wal_interval": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def part(host, watched):
    found = Part(host, "postgres")
    apply(role="pitr")
    apply(AWAY, role="backup")
    return found


def told_once(watched, *words):
    """One mail and one message to the webhook hold all the words."""
    (mail,) = eventually(lambda: watched.told(*words), 60)
    assert mail["to"] == ["oncall@senex.test"]
    hooks = eventually(lambda: [hook for hook in watched.lines("hooks") if all(any(word in line for line in hook["lines"]) for word in words)], 30)
    assert len(hooks) == 1


def shown(host, key):
    done = host.run("senex status --json")
    assert done.rc == 2
    (found,) = [one for one in json.loads(done.stdout)["findings"] if one["key"] == key]
    return found["level"], found["says"]


def test_a_bucket_out_of_reach(host, watched, part):
    for run in (part.fire, part.begin):
        assert run("backup-offsite") != "success"
        eventually(lambda: watched.told("FAIL  backup offsite: failed", "127.0.0.1:9, cannot be reached"), 60)
    level, says = shown(host, "backup offsite")
    assert level == "FAIL" and "cannot be reached" in says
    told_once(watched, "FAIL  backup offsite: failed", "127.0.0.1:9, cannot be reached")


def sql(part, text):
    done = part.script(f"psql -X -q -v ON_ERROR_STOP=1 -U postgres -d senex <<'END'\n{text}\nEND")
    assert done.rc == 0, done.stderr


def test_an_index_that_is_not_in_order(host, watched, part):
    """Every checksum of its pages is right, and everything that copies it is content; the drill's amcheck names the index."""
    eventually(lambda: json.loads(host.check_output(f"cat {HOME}/backups/status/base.json"))["result"] == "ok", 120)
    assert [part.begin(job) for job in ("backup-dump", "pitr-base", "pitr-drill")] == ["success"] * 3
    sql(part, FICKLE)
    assert part.begin("pitr-base") == "success"
    # The bucket, which is not to be reached here, the dump of before, and the archive in turn
    assert [part.begin("pitr-drill") for _ in range(3)] == ["success", "success", "exit-code"]
    level, says = shown(host, "backup drill")
    assert level == "FAIL" and "amcheck found damage" in says and "fickle_index" in says
    told_once(watched, "FAIL  backup drill: failed: amcheck found damage", "fickle_index")
    assert host.check_output(f"ls -A {HOME}/backups/drill") == ""


def test_when_it_is_mended_that_is_told_too(host, watched, part):
    sql(part, "reindex index fickle_index")
    assert part.begin("pitr-base") == "success"
    assert [part.begin("pitr-drill") for _ in range(3)] == ["success"] * 3
    eventually(lambda: watched.told("OK    backup drill"), 60)
    assert len(watched.told("FAIL  backup offsite: failed")) == 1
    assert host.run(f"{SYSTEMCTL} is-failed pitr-drill.service").rc != 0

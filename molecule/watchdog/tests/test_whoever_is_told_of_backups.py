"""Jobs of backups that fail under their timers reach whoever is on call, once. Last of all, for the roles pitr and backup are applied here."""

import json

import pytest
from parts import HOME, SYSTEMCTL, Part, apply, eventually

# Nobody listens there
AWAY = {
    "backup_offsite_repository": "s3:https://127.0.0.1:9/bucket/senex", "backup_offsite_access_key": "molecule-access-key",
    "backup_offsite_secret_key": "molecule-secret-key", "backup_passphrase": "molecule-backup-passphrase", "backup_offsite_wal_interval": 0,
}  # fmt: skip
# Two entries of an index's first leaf change places, as after a change of a collation or a bad block: no file tells, nothing but the order is wrong
DAMAGE = """
with open("{path}", "r+b") as handle:
    handle.seek(8192 + 24)
    pointers = handle.read(16)
    handle.seek(8192 + 24 + 8)
    handle.write(pointers[12:16] + pointers[8:12])
"""


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


def test_an_index_that_is_not_in_order(host, watched, part):
    """The file is read without an error by everything that copies it; the drill's amcheck names the index."""
    eventually(lambda: json.loads(host.check_output(f"cat {HOME}/backups/status/base.json"))["result"] == "ok", 120)
    host.check_output("senex psql -qc 'create table told as select md5(g::text) word from generate_series(1, 5000) g; create index told_word on told (word)'")
    path = host.check_output("senex psql -U postgres -Atc \"checkpoint; select pg_relation_filepath('public.told_word')\"").splitlines()[-1]
    assert part.begin("pitr-base") == "success"
    assert part.begin("pitr-drill") == "success"
    host.check_output(f"python3 - <<'END'\n{DAMAGE.format(path=f'{HOME}/data/postgres/{path}')}\nEND")
    assert part.begin("pitr-base") == "success"
    # The archive and the bucket, which is not to be reached here, in turn
    assert {part.begin("pitr-drill") for _ in range(2)} != {"success"}
    level, says = shown(host, "backup drill")
    assert level == "FAIL" and "amcheck found damage" in says and "told_word" in says
    told_once(watched, "FAIL  backup drill: failed: amcheck found damage", "told_word")
    assert host.check_output(f"ls -A {HOME}/backups/drill") == ""


def test_when_it_is_mended_that_is_told_too(host, watched, part):
    host.check_output("senex psql -qc 'reindex index told_word'")
    assert part.begin("pitr-base") == "success"
    assert [part.begin("pitr-drill") for _ in range(2)] == ["success"] * 2
    eventually(lambda: watched.told("OK    backup drill"), 60)
    assert len(watched.told("FAIL  backup offsite: failed")) == 1
    assert host.run(f"{SYSTEMCTL} is-failed pitr-drill.service").rc != 0

"""A new passphrase of the copies off the host and new keys of their storage, in one rotation, while copies are made; and keys that the storage refuses."""

import json
import os
import re
import secrets
from urllib.parse import urlencode

import pytest
from rotations import Environment
from stack import HOME, wait

pytestmark = pytest.mark.faults
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
KEYS = ("backup_access_key", "backup_secret_key")
NAMES = ("backup_passphrase", *KEYS)
SETTINGS = f"{HOME}/config/backup"


class Issuer:
    """The storage's own administration: who may do what there. It checks signatures from the moment on that it is told to."""

    def __init__(self, stack, storage):
        self.stack, self.place = stack, storage["backup_offsite_repository"].removeprefix("s3:").removesuffix("/backups/senex")

    def _curl(self, path, body, *options):
        return self.stack.sh(f"curl -sS --fail --cacert /root/s3/cert.pem {' '.join(options)} --data '{body}' {self.place}/{path}")

    def _ask(self, action, **words):
        return self._curl("", urlencode({"Action": action, "Version": "2010-05-08", **words}), "--aws-sigv4 aws:amz:us-east-1:iam", "--user t:t")

    def pair(self, name):
        """Access key and secret key of a new user."""
        self._ask("CreateUser", UserName=name)
        self._ask("PutUserPolicy", UserName=name, PolicyName="copies", PolicyDocument=json.dumps(POLICY))
        said = self._ask("CreateAccessKey", UserName=name)
        return tuple(re.search(rf"<{field}>([^<]+)</{field}>", said)[1] for field in ("AccessKeyId", "SecretAccessKey"))

    def withdraw(self, name, pair):
        self.checks(False)
        self._ask("DeleteAccessKey", UserName=name, AccessKeyId=pair[0])
        self.checks(True)

    def checks(self, really):
        self._curl("moto-api/reset-auth", 0 if really else "inf", "-H 'Content-Type: text/plain'")


class Rotated:
    """What was before, what happened, and what was seen."""


def restic(stack, repository, passphrase, keys):
    """What restic says to somebody who has these."""
    files = f"printf '%s' '{passphrase}' >/root/pass; printf '[default]\\naws_access_key_id = %s\\naws_secret_access_key = %s\\n' {' '.join(keys)} >/root/keys"
    place = f"-r {repository} --cacert {SETTINGS}/s3-ca.crt --no-cache --no-lock"
    return stack.ssh(f"{files}; AWS_SHARED_CREDENTIALS_FILE=/root/keys timeout 10 restic {place} --password-file /root/pass cat config", timeout=60)


def status(stack, job):
    return json.loads(stack.sh(f"cat {HOME}/backups/status/{job}.json"))


@pytest.fixture(scope="module")
def rotated(stack, storage, tmp_path_factory):
    """A repository of its own; the others' tests know one passphrase and no keys."""
    seen, issuer, users = Rotated(), Issuer(stack, storage), [f"{when}-{secrets.token_hex(4)}" for when in ("old", "new")]
    seen.old, seen.new = map(issuer.pair, users)
    seen.repository = f"s3:{issuer.place}/backups/{users[0]}"  # a second try begins anew
    inputs = {
        **storage,
        "backup_offsite_repository": seen.repository,
        "backup_offsite_access_key": "{{ vault_backup_access_key }}",
        "backup_offsite_secret_key": "{{ vault_backup_secret_key }}",
    }
    env = seen.env = Environment(tmp_path_factory.mktemp("environment"), inputs, dict(zip(KEYS, seen.old, strict=True)))
    stack.play(inventory=env.inventory, tags="backup").expect()
    try:
        issuer.checks(True)
        stack.sh("senex backup dump && senex backup offsite", timeout=300)
        seen.copy, seen.dump = status(stack, "offsite")["what"], os.path.basename(status(stack, "dump")["what"])
        seen.before, file = env.vault(), env.file.read_bytes()
        since = stack.sh("date +%s").strip()
        seen.wrong = stack.play(**env.rotation(NAMES, seen.new[0], seen.old[1]), timeout=300)
        assert env.file.read_bytes() == file, seen.wrong.errors
        seen.play = stack.play(**env.rotation(NAMES, *seen.new), timeout=600).expect()
        issuer.withdraw(users[0], seen.old)
        seen.after, sent = env.vault(), status(stack, "offsite-wal")["finished"]
        stack.sh("systemctl --user -M senex@ start --no-block backup-offsite-wal.service")  # as its timer does
        wait(lambda: status(stack, "offsite-wal")["finished"] != sent, 120, "WAL sent", pause=1)
        seen.failed = stack.sh(f"journalctl SYSLOG_IDENTIFIER=backup --no-pager -q -o cat -p err --since=@{since}")
        yield seen
    finally:
        issuer.checks(False)
        stack.play(tags="backup", variables=storage).expect()


def test_keys_that_the_storage_refuses_change_nothing(rotated, figure):
    figure("keys that the storage refuses: wall", rotated.wrong.wall)
    said = "\n".join(rotated.wrong.errors)
    assert rotated.wrong.code != 0 and "backup_access_key, backup_secret_key: " in said and "Nothing was changed." in said


def test_no_copy_failed_meanwhile_and_nothing_restarted(rotated, figure):
    figure("rotation of passphrase and keys of the copies: wall", rotated.play.wall)
    assert rotated.failed == ""
    assert [unit for unit in rotated.play.restarts() if not unit.startswith("backup-")] == []


def test_the_vault_has_new_ones(rotated):
    after, before = dict(rotated.after), rotated.before
    assert after.pop("vault_rotated").keys() == set(NAMES)
    assert {name for name in before if after.get(name) != before[name]} == {f"vault_{name}" for name in NAMES} and after.keys() == before.keys()
    assert tuple(after[f"vault_{name}"] for name in KEYS) == rotated.new


def test_the_new_passphrase_opens_the_repository_and_the_old_one_does_not(stack, rotated):
    new, old = (vault["vault_backup_passphrase"] for vault in (rotated.after, rotated.before))
    assert len(json.loads(stack.sh("senex backup restic key list --json"))) == 1
    done = restic(stack, rotated.repository, new, rotated.new)
    assert done.returncode == 0, done.stderr
    done = restic(stack, rotated.repository, old, rotated.new)
    assert done.returncode == 12 and "wrong password" in done.stderr


def test_the_jobs_use_the_new_keys_and_the_old_ones_open_nothing(stack, rotated):
    stack.sh("senex backup offsite", timeout=300)
    assert restic(stack, rotated.repository, rotated.after["vault_backup_passphrase"], rotated.old).returncode != 0
    found = stack.sh(f"cat {SETTINGS}/s3-credentials")
    assert all(key in found for key in rotated.new) and not any(key in found for key in rotated.old)


def test_a_copy_made_before_comes_back(stack, rotated):
    stack.sh(f"cd {HOME}/backups/postgresql && sha256sum {rotated.dump} >/root/sum && rm {rotated.dump}")
    stack.sh(f"senex backup fetch --what postgresql {rotated.copy}", timeout=120)
    stack.sh(f"cd {HOME}/backups/postgresql && sha256sum -c /root/sum && senex backup verify {rotated.dump}", timeout=120)


def test_no_value_in_the_output(rotated):
    values = {vault[f"vault_{name}"] for vault in (rotated.before, rotated.after) for name in NAMES}
    assert [value for value in values if value in rotated.wrong.output + rotated.play.output] == []

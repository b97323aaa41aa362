import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))

from parts import HOME, RUN, Part, apply, eventually  # noqa: E402  (the path above must come first)

BACKUPS = f"{HOME}/backups"
PASSPHRASE = "molecule-backup-passphrase"
SECRET = "molecule-storage-secret"
PLAIN = "words-that-nobody-else-may-read"
INPUTS = {}  # with a storage, once there is one
# The server wants a signature, and does not check whose it is
S3 = "curl -sS --fail --cacert /root/s3/cert.pem --aws-sigv4 aws:amz:us-east-1:s3 --user tester:tester https://127.0.0.1:9000"


class Backup(Part):
    """The command and the units of backups, beside a real PostgreSQL and a real Redis."""

    def __init__(self, host):
        super().__init__(host, "postgres")

    def sql(self, text, database="senex", role="senex"):
        result = self.script(f"psql -X -q -A -t -v ON_ERROR_STOP=1 -U {role} -d {database} <<'END'\n{text}\nEND")
        assert result.rc == 0, result.stderr
        return result.stdout.strip()

    def redis(self, words):
        result = self.script(f"redis-cli -e {words}", container="redis")
        assert result.rc == 0, result.stderr
        return result.stdout.strip()

    def run(self, words):
        return self.host.run(f"{RUN} {HOME}/bin/backup {words}")

    def made(self, words):
        """What a run that must go well says it made. Copies are called after their second, and of the one before it may be the same."""
        second = int(float(self.now()))
        result = self.run(f"{words} --json")
        if "is there already" in result.stderr:
            eventually(lambda: int(float(self.now())) > second, 3)
            result = self.run(f"{words} --json")
        assert result.rc == 0, result.stdout + result.stderr
        return json.loads(result.stdout.splitlines()[-1])

    def status(self, job):
        path = f"{BACKUPS}/status/{job}.json"
        assert self.host.check_output(f"stat -c '%a %U' {path}") == "600 senex"
        return json.loads(self.host.check_output(f"cat {path}"))

    def files(self, directory="postgresql"):
        """{name: checksum} of all there is, the unfinished too, which may be finished meanwhile."""
        lines = self.host.run(f"cd {BACKUPS}/{directory} && find . -type f -print0 | xargs -0r sha256sum").stdout.splitlines()
        return {line[66:].removeprefix("./"): line[:64] for line in lines}

    def complete(self, directory="postgresql"):
        return {name for name in self.files(directory) if name.endswith((".sql.gz", ".rdb"))}

    def now(self):
        """To the microsecond: the test before may have ended within this second, and what it was told is not for this one."""
        return self.host.check_output("date +%s.%6N")

    def said(self, since):
        """What the units said since a moment: with priority err, and all."""
        self.host.check_output("journalctl --sync")  # the last words of a unit may still be on their way when it has ended
        command = f"journalctl SYSLOG_IDENTIFIER=backup --no-pager -q --since=@{since}"
        return self.host.check_output(f"{command} -p err -o cat"), self.host.check_output(f"{command} -o cat")

    def fire(self, job):
        return super().fire(f"backup-{job}")

    def begin(self, job):
        return super().begin(f"backup-{job}")

    def ended(self, job):
        return self.outcome(f"backup-{job}")


@pytest.fixture(scope="module")
def backup(host):
    return Backup(host)


@pytest.fixture(scope="module")
def sent(host, backup):
    """The role with a storage, and a first copy in it; for both files that use it."""
    backup.inputs = INPUTS
    if INPUTS:
        return backup
    host.check_output(f"{S3}/backups -X PUT")
    INPUTS.update({
        "backup_offsite_repository": "s3:https://127.0.0.1:9000/backups/senex",
        "backup_offsite_access_key": "molecule-access-key",
        "backup_offsite_secret_key": SECRET,
        "backup_offsite_ca_certificate": host.check_output("cat /root/s3/cert.pem"),
        "backup_offsite_check_subset": "100%",
        "backup_passphrase": PASSPHRASE,
    })  # fmt: skip
    apply(INPUTS, options=["-vvv", "--diff"])
    assert apply(INPUTS).changed == 0
    backup.sql(f"create table if not exists secret as select '{PLAIN}'::text word, n from generate_series(1, 200) n")
    backup.made("dump")
    backup.made("media")
    return backup


@pytest.fixture(autouse=True)
def journal(request, host):
    """The last words of the units, when a test fails."""
    yield
    if getattr(request.node, "failed", False):
        print(host.run("journalctl SYSLOG_IDENTIFIER=backup + _SYSTEMD_USER_UNIT=redis.service + CONTAINER_NAME=redis --no-pager -q -n 80").stdout)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.failed = report.failed
    return report

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))

from parts import HOME, RUN, Applied, Part, apply, eventually  # noqa: E402  (the path above must come first)

ARCHIVE = f"{HOME}/backups/barman/main"
DATA = f"{HOME}/data/postgres"
PLAYBOOK = Path(__file__).parents[3] / "playbooks" / "restore.yml"
WRITER = Path(__file__).parents[2] / "shared" / "writer.py"


class Archive(Part):
    """The database, its archive, and the program that knows both."""

    def pitr(self, words):
        return self.host.run(f"{RUN} {HOME}/bin/pitr {words}")

    def sql(self, statement, database="senex", role="postgres"):
        result = self.script(f"psql -X -q -A -t -v ON_ERROR_STOP=1 -U {role} -d {database} <<'END'\n{statement}\nEND")
        assert result.rc == 0, result.stderr
        return result.stdout.strip()

    def fill(self):
        """Tables of the application's."""
        ticks = "create table ticks (id bigserial primary key, at timestamptz not null default clock_timestamp())"
        self.sql(f"drop table if exists ticks, orders; {ticks}", role="senex")
        self.sql("create table orders as select g as id, md5(g::text) as word from generate_series(1, 20000) g; create index on orders (word)", role="senex")

    def is_received(self):
        """Wait until all that was committed so far has left the database's disk."""
        end = self.sql("select pg_switch_wal()")
        eventually(lambda: self.sql(f"select count(*) > 0 from pg_stat_replication where flush_lsn >= '{end}'") == "t", 60)

    def status(self, job):
        return json.loads(self.host.check_output(f"cat {HOME}/backups/status/{job}.json"))

    def do(self, verb, unit):
        return self.host.run(f"systemctl --user --machine=senex@ {verb} {unit}")

    def restore(self, to, confirm=True):
        """The playbook, as a person starts it."""
        inventory = os.environ["MOLECULE_INVENTORY_FILE"]
        variables = {"restore_from": "pitr", "restore_to": to, "restore_confirm": confirm}
        command = ["ansible-playbook", "-i", inventory, "-e", json.dumps(variables), str(PLAYBOOK)]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "COLUMNS": "400"}
        return Applied(subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment))

    def write(self):
        """Insert a row every 100 ms from now on; what was acknowledged is kept."""
        program = WRITER.read_text(encoding="utf-8")
        self.host.check_output(f"install -o senex -g senex /dev/null {HOME}/acks; cat > {HOME}/writer.py <<'END'\n{program}\nEND")
        self.host.check_output(f"systemd-run --user --machine=senex@ --quiet --unit=writer /usr/bin/python3 {HOME}/writer.py {HOME}/acks")

    def acknowledged(self):
        """[(id, time)] of rows that the writer was told are there."""
        lines = self.host.check_output(f"cat {HOME}/acks").splitlines()
        return [(int(number), float(at)) for number, at in (line.split("|") for line in lines if re.fullmatch(r"\d+\|[\d.]+", line))]

    def rows(self):
        return {int(line) for line in self.sql("select id from ticks").split()}

    def newest(self, pattern):
        return self.host.check_output(f"ls -d {pattern} | sort | tail -n 1")

    @contextmanager
    def damaged(self, path, how):
        """A file of the archive, spoilt for a while by a piece of Python that is given its `data`. Nobody else writes to it meanwhile."""
        received = path.endswith(".partial")
        if received:
            self.do("stop", "pitr-receive.service")
        self.host.check_output(f"cp -a {path} /root/kept")
        program = f"import pathlib; p = pathlib.Path('{path}'); data = bytearray(p.read_bytes())\n{how}\nif data is not None: p.write_bytes(data)"
        self.host.check_output(f"python3 - <<'END'\n{program}\nEND")
        try:
            yield
        finally:
            self.host.check_output(f"cp -a /root/kept {path}")
            if received:
                self.do("start", "pitr-receive.service")
                eventually(lambda: self.pitr("wal").rc == 0)


@pytest.fixture(scope="module")
def archive(host):
    return Archive(host, "postgres")


@pytest.fixture(scope="module")
def filled(archive):
    """A base backup with the tables, where the tests that make them did not run."""
    if archive.sql("select to_regclass('orders') is null") == "t":
        archive.fill()
        archive.sql("insert into ticks default values")
        assert archive.begin("pitr-base") == "success"
    return archive


@pytest.fixture(scope="module")
def bucket(host, archive):
    """Role backup with a storage, and all that there is in it."""
    host.check_output("curl -sS --fail --cacert /root/s3/cert.pem --aws-sigv4 aws:amz:us-east-1:s3 --user tester:tester https://127.0.0.1:9000/backups -X PUT")
    never = "2000-01-01"
    inputs = {
        "backup_offsite_repository": "s3:https://127.0.0.1:9000/backups/senex",
        "backup_offsite_access_key": "molecule-access-key",
        "backup_offsite_secret_key": "molecule-storage-secret",
        "backup_offsite_ca_certificate": host.check_output("cat /root/s3/cert.pem"),
        "backup_passphrase": "molecule-backup-passphrase",
        "backup_offsite_wal_interval": 0,
        **{f"backup_{job}_schedule": never for job in ("dump", "redis", "media", "offsite", "offsite_check")},
    }
    apply(inputs, role="backup")
    host.check_output(f"{RUN} {HOME}/bin/backup offsite")
    return archive


@pytest.fixture
def proved(archive, filled, bucket):
    """Archive and bucket have been restored from, the bucket last."""
    if archive.status("drill").get("source") != "bucket":
        assert [archive.pitr(f"drill --from {source}").rc for source in ("archive", "bucket")] == [0, 0]
    return archive


@pytest.fixture(autouse=True)
def journal(request, archive):
    """What the parts said last, when a test fails."""
    yield
    if getattr(request.node, "failed", False):
        print(archive.host.run("journalctl --no-pager -q -n 40 _UID=987").stdout)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.failed = report.failed
    return report

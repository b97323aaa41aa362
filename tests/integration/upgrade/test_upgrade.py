"""PostgreSQL 15 to 17 and back under the running application."""

import json

import pytest
from stack import HOME, wait

DATA = f"{HOME}/data/postgres"
NEW = {"postgresql_version": 17}
# What a restore of rows meets and one of objects does not: a rule that is another one than when the row was written
UNRESTORABLE = """create function answers() returns boolean language sql as 'select true';
create table asking (id int check (answers())); insert into asking values (1);
create or replace function answers() returns boolean language sql as 'select false'"""
# What the application has written may run when its rows are copied, and gains nothing by that
GREEDY = """create function greed() returns boolean language plpgsql as $$ begin
 if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then alter role senex superuser; end if; return true; end $$;
create table greedy (id int check (greed())); insert into greedy values (1)"""
COUNTED = """select (select count(*) from probe_row), (select last_value from probe_row_id_seq), (select last_value from odd),
 (select string_agg(extname, ',' order by extname) from pg_extension)"""
ROLES = "select md5(string_agg(rolname || coalesce(rolpassword, ''), ',' order by rolname)) from pg_authid where rolname !~ '^pg_'"


def sql(stack, text, database="senex", role="postgres"):
    return stack.user("podman", "exec", "postgres", "psql", "-XAtqU", role, "-d", database, "-v", "ON_ERROR_STOP=1", "-c", text).strip()


def version(stack):
    return sql(stack, "show server_version").split(".")[0]


def upgrade(stack, **inputs):
    return stack.play(playbook="playbooks/upgrade_postgresql.yml", tags="all", variables={**NEW, **inputs}, timeout=900)


def said(run):
    return " ".join(str(result.get("msg", "")) for _name, result in run.results)


def beside(stack):
    """What lies beside the data, and whether the lock of releases is held."""
    return stack.sh(f"ls -d {DATA}.* /var/lib/senex.trader/deploy.lock 2>/dev/null || true").split()


@pytest.fixture(scope="module")
def filled(stack):
    """Rows, a role with a password, a sequence, extensions and a second database."""
    stack.ready(120)
    if sql(stack, "select 1 from pg_database where datname = 'reports'"):
        return stack
    for number in range(3):
        stack.post("/api/rows/", {"text": f"row {number} before the upgrade"})
    sql(stack, "create extension if not exists pg_trgm; create extension if not exists btree_gin; create sequence odd start 100 increment 7;"
               "select nextval('odd'); create role reader login password 'reader-password-1'; alter role reader set statement_timeout = '5s'")  # fmt: skip
    sql(stack, GREEDY, role="senex")
    sql(stack, "create database reports")
    sql(stack, "create table report (id serial primary key, word text); insert into report (word) values ('kept')", "reports")
    if not json.loads(stack.sh("senex pitr list --json"))["base_backups"]:
        stack.sh("senex pitr base", timeout=240)
    return stack


@pytest.fixture
def upgraded(filled):
    """On the new version, with a row of since then."""
    if version(filled) == "15":
        upgrade(filled, upgrade_confirm=True).expect()
        filled.ready()
        filled.post("/api/rows/", {"text": "after the upgrade"})


def checksums(stack, **inputs):
    return stack.play(playbook="playbooks/checksums.yml", tags="all", variables=inputs, timeout=600)


@pytest.mark.faults
def test_checksums_are_enabled_in_a_cluster_that_has_none(filled, figure):
    """As one that an earlier version made: the plan says for how long, the application rests, and all is as it was, with a new base backup."""
    assert sql(filled, "show data_checksums") == "on", "a new cluster has them"
    units = "web-1 web-2 celery-worker celery-beat postgres"
    filled.user("systemctl", "--user", "stop", *units.split())
    image = filled.sh(f"sed -n 's/^Image=//p' {HOME}/.config/containers/systemd/postgres.container").strip()
    filled.user("podman", "run", "--rm", "--pull=never", "--network=none", "--user=70" if "alpine" in image else "--user=999", f"--volume={DATA}:/data",
                "--entrypoint=pg_checksums", image, "--disable", "--pgdata=/data")  # fmt: skip
    filled.user("systemctl", "--user", "start", *units.split())
    filled.ready(120)
    assert sql(filled, "show data_checksums") == "off" and "data checksums off" in filled.sh("senex status --json || true")
    before, bases = sql(filled, COUNTED), len(json.loads(filled.sh("senex pitr list --json"))["base_backups"])
    plan = checksums(filled)
    assert "has no data checksums" in said(plan) and "stand still for about" in said(plan) and sql(filled, "show data_checksums") == "off"
    done = checksums(filled, checksums_confirm=True)
    figure("seconds that the application rests for data checksums", float(said(done).partition("rested for ")[2].split()[0]))
    assert sql(filled, "show data_checksums") == "on" and sql(filled, COUNTED) == before
    assert len(json.loads(filled.sh("senex pitr list --json"))["base_backups"]) == bases + 1
    assert "Nothing to do" in said(checksums(filled, checksums_confirm=True))
    filled.ready()


def test_another_major_is_refused_before_anything_changes(filled):
    before = filled.files(), filled.starts()
    run = filled.play(variables=NEW)
    assert run.code != 0 and run.changed == []
    (message,) = run.errors
    assert "postgresql_version: 17 is asked for, but the data directory was written by PostgreSQL 15" in message
    assert "playbooks/upgrade_postgresql.yml" in message
    assert (filled.files(), filled.starts()) == before


def test_unconfirmed_it_shows_the_plan(filled):
    starts = filled.starts()
    run = upgrade(filled).expect()
    assert run.changed == [] and filled.starts() == starts and beside(filled) == []
    for words in ("PostgreSQL 15 -> 17", "pg_trgm 1.6", "reports", "Nothing was changed. To carry it out: -e upgrade_confirm=true"):
        assert words in said(run)


def test_too_little_room_is_refused(filled):
    """The database's size is what PostgreSQL finds in its directory."""
    junk = f"{DATA}/base/{sql(filled, 'select oid from pg_database where datname = current_database()')}/999999999"
    filled.sh(f"truncate -s 4T {junk}; chown --reference={DATA}/PG_VERSION {junk}")
    try:
        run = upgrade(filled, upgrade_confirm=True)
    finally:
        filled.sh(f"rm {junk}")
    assert run.code != 0 and run.changed == []
    assert "MB free, and the new cluster beside the old one needs about" in run.errors[0]


@pytest.mark.faults
def test_missing_extension_is_refused_while_the_application_serves(filled):
    """PostgreSQL 17 has no adminpack any more."""
    sql(filled, "create extension adminpack")
    starts = filled.starts()
    run = upgrade(filled, upgrade_confirm=True)
    sql(filled, "drop extension adminpack")
    assert run.code != 0
    assert "has no extension adminpack, which database senex uses" in run.errors[-1]
    assert filled.starts() == starts and beside(filled) == [] and version(filled) == "15"


@pytest.mark.faults
def test_what_cannot_be_restored_leaves_the_old_version_serving(filled):
    sql(filled, UNRESTORABLE)
    run = upgrade(filled, upgrade_confirm=True)
    sql(filled, "drop table asking; drop function answers")
    assert run.code != 0
    assert "asking" in run.errors[-1] and "PostgreSQL 15 serves as before" in run.errors[-1]
    filled.ready()
    assert beside(filled) == [] and version(filled) == "15"
    # Who comes in from outside is let in again
    assert "host all all all reject" not in filled.sh(f"cat {HOME}/config/postgresql/pg_hba.conf")
    filled.task_runs()


def test_upgrade_keeps_what_was_there(filled, figure):
    counted, roles = sql(filled, COUNTED), sql(filled, ROLES)
    run = upgrade(filled, upgrade_confirm=True).expect()
    figure("PostgreSQL 15 to 17: wall", run.wall)
    filled.ready()
    assert version(filled) == "17"
    assert sql(filled, COUNTED) == counted and sql(filled, ROLES) == roles
    assert sql(filled, "select word from report", "reports") == "kept"
    assert sql(filled, "select rolsuper, (select count(*) from greedy) from pg_roles where rolname = 'senex'") == "f|1"
    assert sql(filled, "select pg_encoding_to_char(encoding) || datcollate from pg_database where datname = 'senex'") == "UTF8C"
    assert sql(filled, "select count(*) > 0 from pg_stats where tablename = 'probe_row'") == "t"
    assert json.loads(filled.get("/api/rows/")[1])["count"] == int(counted.split("|")[0])
    filled.post("/api/rows/", {"text": "after the upgrade"})
    filled.task_runs()
    aside = beside(filled)
    assert len(aside) == 1 and aside[0].startswith(f"{DATA}.15-") and aside[0] in said(run)
    again = filled.play(variables=NEW).expect()
    assert again.changed == []


def test_both_archives_can_be_restored_from(filled):
    """The new one has a base backup; the old one is read with the image of its version."""
    listed = json.loads(filled.sh("senex pitr list --json"))
    assert len(listed["base_backups"]) == 1
    filled.sh("senex pitr check && senex pitr wal", timeout=120)
    (kept,) = listed["kept_archives"]
    into = f"{DATA}.looked-into"
    program = f"runuser -u senex -- {HOME}/bin/pitr --archive {kept}"
    found = filled.sh(f"cd /; {program} restore --to latest --into {into}", timeout=240)
    assert '"public.probe_row"' in found or "probe_row" in found
    assert filled.sh(f"cat {into}/PG_VERSION").strip() == "15"
    refused = filled.ssh(f"cd /; runuser -u senex -- {HOME}/bin/pitr exchange {into}")
    assert refused.returncode and "is of PostgreSQL 15, and 17 runs here" in refused.stderr
    filled.user("podman", "unshare", "rm", "-rf", into)


@pytest.mark.faults
@pytest.mark.usefixtures("upgraded")
def test_way_back(filled, figure):
    rows, newest = (int(sql(filled, f"select {what} from probe_row")) for what in ("count(*)", "max(id)"))
    inputs = {"upgrade_back": True}
    asked = upgrade(filled, **inputs).expect()
    assert asked.changed == [] and f"table public.probe_row: {rows - 1} rows before, {rows} rows now" in said(asked)
    run = upgrade(filled, upgrade_confirm=True, **inputs).expect()
    figure("PostgreSQL 17 back to 15: wall", run.wall)
    filled.ready()
    assert version(filled) == "15" and int(sql(filled, "select count(*) from probe_row")) == rows - 1
    filled.post("/api/rows/", {"text": "after the way back"})
    assert int(sql(filled, "select max(id) from probe_row")) > newest, "a number that was handed out on 17 is handed out again"
    filled.task_runs()
    assert [path.startswith(f"{DATA}.17-") for path in beside(filled)] == [True]
    again = filled.play().expect()
    assert again.changed == []
    wait(lambda: filled.ssh("senex pitr wal", timeout=120).returncode == 0, 60, "the archive goes on")
    assert filled.ssh("senex pitr check", timeout=120).stderr == ""

"""PostgreSQL as its clients and the kernel see it. The order matters: the later tests change the role's inputs."""

import json
import re

import pytest
from conftest import IMAGE, PASSWORD
from parts import HOME, HOSTILE, MARK, RUN, SYSTEMCTL, apply, eventually

FILES = (f"{HOME}/.config/containers/systemd/postgres.container", f"{HOME}/config/postgresql/*")
DATA = f"{HOME}/data/postgres"
NOTED = f"{HOME}/config/postgresql/cluster /var/lib/senex.trader/postgresql.data"  # that this host has a cluster
REFUSED = "permission denied|must be superuser"  # in the words of 16, and of 15
# One parallel query of these may share 288 MB, which PostgreSQL allocates in steps: 382 MB
LARGE = {"postgresql_settings": {"work_mem": "48MB", "shared_buffers": "256MB"}, "postgresql_parallel_queries": 1}


def test_answers_over_verified_tls(postgres):
    assert re.fullmatch(r"t\|TLSv1\.[23]", postgres.query("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()"))


def test_refuses_plain_connections(postgres):
    assert "rejects connection" in postgres.query("select 1", sslmode="disable", sslrootcert="")


def test_refuses_a_wrong_password(postgres):
    assert "password authentication failed" in postgres.query("select 1", password="something-else")


def test_certificate_names_the_server(host, postgres):
    address = postgres.inspect('(index .NetworkSettings.Networks "senex-trader_senex_network").IPAddress')
    assert "does not match host name" in postgres.query("select 1", host=address)


def test_password_is_stored_as_scram(postgres):
    stored = postgres.administer("select rolname, left(rolpassword, 14) from pg_authid where rolpassword is not null")
    assert stored == "senex|SCRAM-SHA-256$"


@pytest.mark.parametrize(
    "statement",
    ["create temp table said (what text); copy said from program 'id'", "copy (select 1) to program 'cat'",
     "create temp table said (what text); copy said from '/run/secrets/postgres_tls_key'", "select pg_read_file('/run/secrets/postgres_tls_key')",
     "create role other superuser", "alter role senex superuser",
     "set role postgres", "create database other", "alter system set ssl = off"],
)  # fmt: skip
def test_the_application_is_no_superuser(postgres, statement):
    said = postgres.query(statement)
    assert re.search(REFUSED, said), said
    assert "uid=" not in said and "PRIVATE KEY" not in said


def test_the_superuser_comes_in_by_the_socket_alone(postgres):
    rights = "rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls"
    assert postgres.query(f"select {rights} from pg_roles where rolname = current_user") == "f"
    assert postgres.query("select pg_get_userbyid(datdba) from pg_database where datname = current_database()") == "senex"
    assert postgres.administer("select rolname, rolpassword is null from pg_authid where rolsuper") == "postgres|t"
    assert "rejects connection" in postgres.query("select 1", user="postgres")
    assert "rejects connection" in postgres.query("select 1", user="postgres", dbname="postgres")


def test_is_confined(postgres):
    postgres.is_confined(uid=999)
    postgres.is_unpublished(5432)


def test_data_is_for_its_owner_alone(host):
    directory = host.file(DATA)
    assert (directory.uid, directory.mode) == (200998, 0o700)


def test_configuration_is_live(postgres):
    """4 GB of RAM; the unit has 1 GB, which is tuned like a host of 2 GB."""
    wanted = {
        "shared_buffers": "512MB",
        "effective_cache_size": "1536MB",
        "maintenance_work_mem": "128MB",
        "work_mem": "16MB",
        "max_connections": "200",
        "max_wal_size": "4GB",
        "random_page_cost": "1.1",
        "password_encryption": "scram-sha-256",
        "log_min_duration_statement": "250ms",
        "server_encoding": "UTF8",
        "lc_collate": "C",
        "TimeZone": "Etc/UTC",
    }
    shown = postgres.query("\n".join(f"show {name};" for name in wanted)).splitlines()
    assert dict(zip(wanted, shown, strict=True)) == wanted
    assert int(postgres.show("MemoryMax")) == 1024 * 1024 * 1024
    assert shared_memory(postgres) == 288


def shared_memory(postgres):
    """MB of /dev/shm in the container."""
    return int(postgres.script("df -P -k /dev/shm").stdout.splitlines()[1].split()[1]) // 1024


def test_further_database_and_extensions(postgres):
    owner = "select pg_get_userbyid(datdba) from pg_database where datname = current_database()"
    extensions = "select string_agg(extname, ' ' order by extname) from pg_extension"
    assert postgres.query(f"{owner};\n{extensions}") == "senex\ncitext plpgsql"
    assert postgres.query(f"{owner};\n{extensions}", dbname="reports") == "senex\npg_trgm plpgsql"


def test_stops_fast_and_starts_without_recovery(postgres):
    postgres.query("drop table if exists kept; create table kept (what text); insert into kept values ('stopped')")
    postgres.podman("exec -d client sh -c \"PGPASSWORD=molecule-database-password psql -w 'host=postgres user=senex' -c 'select pg_sleep(120)'\"")
    eventually(lambda: postgres.query("select count(*) from pg_stat_activity where query like '%sleep(120)%' and pid <> pg_backend_pid()") == "1")
    since = postgres.now()
    assert postgres.systemctl("stop") < 10
    log = postgres.journal(since=since)
    assert "received fast shutdown request" in log
    assert "database system is shut down" in log
    since = postgres.now()
    postgres.systemctl("start")
    log = postgres.journal(since=since)
    assert "database system was shut down at" in log
    assert "recovery" not in log
    assert postgres.query("select what from kept") == "stopped"


def test_comes_back_when_killed(postgres):
    postgres.query("insert into kept values ('killed')")
    since = postgres.now()
    took = postgres.kill()
    print(f"back after {took:.1f} s")
    assert took < 30
    assert postgres.query("select count(*) from kept") == "2"
    assert "automatic recovery in progress" in postgres.journal(since=since, lines=100)


def test_bad_inputs_are_told_and_change_nothing(postgres):
    """Nor is data of another major version touched, or an image pulled."""
    before = postgres.started, postgres.hash_of(*FILES)
    result = apply(
        {
            "postgresql_password": "short",
            "postgresql_memory": "400M",
            "postgresql_settings": {"ssl": False, "shared_buffers": "512MB"},
            "postgresql_databases": [{"name": "two words"}],
            "postgresql_version": 16,
            "postgresql_image": "registry.senex.test:5000/library/postgres:none",
        },
        check=False,
    )
    assert result.rc
    assert "postgresql_password: shorter than 12 characters" in result.message
    assert "postgresql_memory: 400 MB is too little for shared_buffers of 512MB" in result.message
    assert "postgresql_settings: ssl is not for it to set" in result.message
    assert "postgresql_databases: two words: write a name" in result.message
    assert "postgresql_version: 16 is asked for, but the data directory was written by PostgreSQL 15" in result.message
    assert "playbooks/upgrade_postgresql.yml" in result.message
    assert (postgres.started, postgres.hash_of(*FILES)) == before


def test_refused_setting_is_put_back(postgres):
    """What only PostgreSQL itself can know: the old state goes on, with its data."""
    before = postgres.hash_of(*FILES)
    result = apply({"postgresql_settings": {"work_mem": "much"}, "postgresql_start_timeout": 20}, check=False)
    assert result.rc
    for words in ("postgres.service did not come up", "invalid value for parameter", "files from before are back", "running again: postgres.service"):
        assert words in result.message
    assert postgres.hash_of(*FILES) == before
    assert postgres.query("select count(*) from kept") == "2"


def test_unknown_extension_is_told(postgres):
    started = postgres.started
    result = apply({"postgresql_extensions": ["nosuch"]}, check=False)
    assert result.rc
    assert 'extension "nosuch" is not available' in result.message
    assert postgres.started == started


def test_setting_restarts_it_and_nothing_else(host, postgres):
    units = f"{RUN} systemctl --user show --property=Id,ActiveEnterTimestampMonotonic 'senex-network*.service' client.service"
    others, client, own = host.check_output(units), postgres.inspect(".State.StartedAt", "client"), postgres.started
    apply(LARGE)
    assert postgres.query("show work_mem") == "48MB"
    assert postgres.started != own
    assert (host.check_output(units), postgres.inspect(".State.StartedAt", "client")) == (others, client)


def test_a_parallel_query_finds_the_memory_that_its_settings_allow_it(postgres):
    assert shared_memory(postgres) == 432
    plan = "set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set enable_mergejoin = off; set enable_nestloop = off;"
    join = "select count(*), max(length(a.t || b.t)) from wide a join wide b using (k)"
    postgres.query("create unlogged table wide as select n as k, repeat('x', 500) as t from generate_series(1, 520000) n; analyze wide;")
    try:
        assert "Parallel Hash Join" in postgres.query(f"{plan} explain {join}")
        assert postgres.query(f"{plan} {join}") == "520000|1000"
    finally:
        postgres.query("drop table wide")


def test_hostile_password_arrives_and_shows_nowhere(postgres):
    """It changes in the database alone: no restart."""
    started = postgres.started
    postgres.sample_command_lines()
    apply({**LARGE, "postgresql_password": HOSTILE}, options=["-vvv", "--diff"])
    assert postgres.query("select 1", password=HOSTILE) == "1"
    assert "password authentication failed" in postgres.query("select 1")
    assert postgres.started == started
    assert MARK not in postgres.sampled("pg_isready", "psql", meanwhile=lambda: postgres.query("select 1", password=HOSTILE))
    postgres.shows_nowhere()


def test_password_is_in_no_log_of_statements(postgres):
    apply({"postgresql_password": HOSTILE, "postgresql_settings": {"log_statement": "all", "log_min_duration_statement": 0}})
    changed = apply({"postgresql_settings": {"log_statement": "all", "log_min_duration_statement": 0}})
    assert changed.changed
    assert postgres.query("select 1") == "1"
    log = postgres.journal(lines=200)
    assert "statement: select 1" in log
    # That the archive's role has no limits is said there, and is no secret
    assert MARK not in log and not re.search(r"alter role \S+ password", log)


def test_absent_keeps_the_data(host, postgres):
    host.check_output(f"touch {DATA}/foreign && chown 1234:1234 {DATA}/foreign")
    inode = host.check_output(f"stat -c '%i %u %a' {DATA}")
    apply({"postgresql_state": "absent"})
    postgres.is_gone()
    assert host.run(f"ls {' '.join(FILES)}").stdout.split() == [f"{HOME}/config/postgresql/cluster"], "which one the data is that stays"
    assert host.check_output(f"stat -c '%i %u %a' {DATA}") == inode
    apply()
    assert postgres.query("select string_agg(what, ' ') from kept") == "stopped killed"
    assert host.check_output(f"stat -c %u {DATA}/foreign; rm {DATA}/foreign") == "1234"


def test_a_database_that_is_gone_is_made_again(postgres):
    """As after a first start that ended too early; beside a database that nobody listed, another name was meant."""
    postgres.administer("create database mine")
    postgres.administer("drop database senex with (force)")
    refused = apply(check=False)
    assert refused.rc and "there is no database senex here, but mine" in refused.message
    postgres.administer("drop database mine")
    assert apply().changed
    assert postgres.query("select current_database(), string_agg(extname, ' ' order by extname) from pg_extension") == "senex|citext plpgsql"
    assert not apply().changed


@pytest.fixture
def without_data(host, postgres):
    """The cluster is put aside, with all that knows of it, and comes back."""
    postgres.systemctl("stop")
    host.check_output(f"mv {DATA} {DATA}.kept; for had in {NOTED}; do mv $had $had.kept; done")
    yield
    postgres.systemctl("stop")
    host.check_output(f"rm -rf {DATA} && mv {DATA}.kept {DATA}; for had in {NOTED}; do mv $had.kept $had; done")
    postgres.systemctl("start")


@pytest.mark.usefixtures("without_data")
def test_a_cluster_of_an_earlier_version_is_converted_under_open_sessions(host, postgres):
    """Its first role is the application's: that one becomes the superuser, and another one the application's, while a session writes."""
    host.check_output(f"install -d -o 200998 -g 200998 -m 0700 {DATA}")
    initdb = "--pgdata=/data --username=senex --no-sync --auth-local=peer --encoding=UTF8 --locale=C"
    postgres.podman(f"run --rm --pull=never --network=none --user=999 --volume={DATA}:/data --entrypoint=initdb {IMAGE} {initdb}")
    postgres.systemctl("start")
    postgres.administer(f"create database senex; alter role senex password '{PASSWORD}'; create role reader; grant senex to reader", role="senex")
    postgres.administer("create extension citext; create table old (id serial primary key, what text)", "senex", "senex")
    assert "uid=999" in postgres.query("create temp table said (what text); copy said from program 'id'; table said"), "as it was"
    began = postgres.started
    writes = "do 'begin for n in 1..600 loop insert into old (what) values (n); commit; perform pg_sleep(0.1); end loop; end'"
    postgres.script(f"PGPASSWORD={PASSWORD} psql -w 'host=postgres user=senex' -c \"{writes}\" </dev/null >/dev/null 2>&1 &", container="client")
    eventually(lambda: int(postgres.query("select count(*) from old")) > 5)
    assert apply().changed
    assert not apply().changed
    assert postgres.started == began
    there = int(postgres.query("select count(*) from old"))
    eventually(lambda: int(postgres.query("select count(*) from old")) > there + 5)
    assert postgres.administer("select oid = 10, rolname from pg_roles where rolsuper") == "t|postgres"
    assert postgres.query("alter table old add column more text; select pg_get_userbyid(relowner) from pg_class where relname = 'old'") == "senex"
    assert postgres.administer("select r.rolname from pg_auth_members a join pg_roles r on r.oid = roleid join pg_roles m on m.oid = member "
                               "where m.rolname = 'reader'") == "senex"  # fmt: skip
    said = postgres.query("create temp table said (what text); copy said from program 'id'; table said")
    assert re.search(REFUSED, said) and "uid=" not in said


@pytest.mark.parametrize("moment", ["pgrep -x initdb && sleep 0.3", f"test -s {DATA}/PG_VERSION"], ids=["in the middle of initdb", "when there is a cluster"])
@pytest.mark.usefixtures("without_data")
def test_a_first_start_that_is_killed_is_finished_by_the_next_run(host, postgres, moment):
    host.check_output(f"install -d -o 200998 -g 200998 -m 0700 {DATA}")
    host.check_output(f"{SYSTEMCTL} start --no-block {postgres.unit}")
    host.check_output(f"for _ in $(seq 600); do {{ {moment}; }} >/dev/null 2>&1 && break; sleep 0.02; done; {RUN} podman kill {postgres.name}")
    host.check_output(f"{SYSTEMCTL} stop {postgres.unit}")
    assert apply().changed
    assert postgres.query("select current_database(), current_user") == "senex|senex"
    assert "first-start" not in host.check_output(f"ls {DATA}")


@pytest.mark.usefixtures("without_data")
def test_a_directory_that_root_prepared_is_named(host):
    host.check_output(f"mkdir {DATA}")
    refused = apply(check=False)
    assert refused.rc and f"{DATA} belongs to root" in refused.message
    host.check_output(f"mkdir {DATA}/lost+found")
    refused = apply(check=False)
    assert refused.rc and f"mount the disk at {HOME}/data" in refused.message


def test_a_cluster_is_known_by_its_system_identifier(host, postgres):
    known = postgres.administer("select system_identifier from pg_control_system()")
    first, second = (host.check_output(f"cat {path}") for path in NOTED.split())
    assert first == known and f'"{DATA}": "{known}"' in second


def test_a_disk_that_is_not_mounted_becomes_no_empty_site(host, postgres):
    """Neither by a run, nor by a boot on the empty mount point, nor where the path was mistyped. The disk mounted again, all is as it was."""
    postgres.query("create table precious as select 1 as row")
    postgres.systemctl("stop")
    host.check_output(f"mv {DATA} {DATA}.disk")
    try:
        for there in (f"install -d -o 200998 -g 200998 -m 0700 {DATA}", f"rmdir {DATA}"):
            host.check_output(there)
            refused = apply(check=False)
            assert refused.rc and "is missing or empty, and this host has had cluster" in refused.message, refused.message
            assert "-e postgresql_new_cluster=true" in refused.message
        host.check_output(f"install -d -o 200998 -g 200998 -m 0700 {DATA}")
        since = postgres.now()
        host.check_output(f"{SYSTEMCTL} start --no-block {postgres.unit}")
        eventually(lambda: "mount its disk" in postgres.journal(since=since))
        host.check_output(f"{SYSTEMCTL} stop {postgres.unit}")
        assert host.check_output(f"ls -A {DATA}") == ""
    finally:
        host.check_output(f"rmdir {DATA}; mv {DATA}.disk {DATA}")
        postgres.systemctl("start")
    refused = apply({"postgresql_data_directory": "data/postgers"}, check=False)
    assert refused.rc and f"in {DATA}" in refused.message and host.run(f"test -e {HOME}/data/postgers").rc
    assert not apply().changed
    assert postgres.query("select row from precious") == "1"


def checksums(step, **options):
    return apply({"molecule_tasks_from": "checksums_step", "postgresql_checksums_step": step, "checksums_id": "of-a-test"}, **options)


@pytest.fixture
def without_checksums(host, postgres):
    """As a cluster of an earlier version is, under the lock of a run that enables them."""
    assert postgres.administer("show data_checksums") == "on", "a new cluster has them"
    postgres.systemctl("stop")
    once = f"run --rm --pull=never --network=none --user=999 --volume={DATA}:/data --entrypoint=pg_checksums {IMAGE}"
    postgres.podman(f"{once} --disable --pgdata=/data")
    postgres.systemctl("start")
    assert postgres.administer("show data_checksums") == "off"
    lock = "/var/lib/senex.trader/deploy.lock"
    holder = {"id": "of-a-test", "what": "data checksums", "who": "a test", "step": "x", "since": 1, "renewed": 9999999999}
    host.check_output(f"printf '{json.dumps(holder)}' >{lock}")
    yield
    host.check_output(f"rm -f {lock}")


@pytest.mark.usefixtures("without_checksums")
def test_checksums_are_enabled_and_a_run_that_was_cut_short_has_changed_nothing(host, postgres):
    """While another program works on the files no server starts; killed there, the cluster is as it was, and the same begins again."""
    assert checksums("plan").rc == 0
    postgres.systemctl("stop")
    hold = "flock -n /data/PG_VERSION sleep 600"
    postgres.podman(f"run -d --rm --name holds --pull=never --network=none --user=999 --volume={DATA}:/data --entrypoint=sh {IMAGE} -c '{hold}'")
    since = postgres.now()
    host.check_output(f"{SYSTEMCTL} start --no-block {postgres.unit}")
    eventually(lambda: "another program works on the files" in postgres.journal(since=since), 90)
    postgres.podman("kill holds")
    eventually(lambda: postgres.show("ActiveState") == "active", 60)
    assert postgres.administer("show data_checksums") == "off"
    done = checksums("enable")
    assert done.changed
    assert postgres.administer("show data_checksums") == "on" and postgres.query("select row from precious") == "1"
    assert host.run("test -e /var/lib/senex.trader/postgresql-checksums.begun").rc == 0, "until all serves again"
    checksums("done")
    assert host.run("test -e /var/lib/senex.trader/postgresql-checksums.begun").rc == 1
    host.check_output("rm /var/lib/senex.trader/deploy.lock")  # a run beside it would be refused
    assert not apply().changed

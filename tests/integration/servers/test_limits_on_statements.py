"""Limits that postgresql_settings has for the application's statements end no dump, no restore, no upgrade and no check: on a real server."""

import pathlib
import re
import subprocess
import types

import pytest
from ansible_collections.senex.trader.plugins.module_utils.postgresql import amcheck, pre_deploy, session
from ansible_collections.senex.trader.plugins.module_utils.postgresql import facts as pg_facts
from ansible_collections.senex.trader.plugins.module_utils.postgresql import server as pg_server
from pitr import recovery
from rendered import ROOT, component, loaded
from test_backup_command import command, settings  # noqa: F401  (fixtures)
from test_dump_restored import backup, server  # noqa: F401  (fixtures)
from test_postgresql_roles import pytestmark, serving  # noqa: F401  (the mark)

ROLES = ROOT / "roles"
LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
LONG = "select 'done' from pg_catalog.pg_sleep(0.3)"
WAIT = "do 'begin perform pg_catalog.pg_sleep(0.3); end';\n"


@pytest.fixture
def limited(backup):  # noqa: F811
    """A server on which nothing may take 20 ms, nor in that database."""
    for name in LIMITS:
        backup.server.sql(f"alter system set {name} = '20ms'")
        backup.server.sql(f"alter database senex set {name} = '20ms'", PGOPTIONS="-c statement_timeout=0")
    backup.server.sql("select pg_reload_conf()")
    done = backup.server.sql(LONG, database="senex", check=False)
    assert "canceling statement due to statement timeout" in done.stderr, "whoever asks there as one asks is ended"
    yield backup
    backup.server.sql("alter system reset all", PGOPTIONS="-c statement_timeout=0")
    backup.server.sql("select pg_reload_conf()")


def engine(backup):  # noqa: F811
    found = pg_server.Server(None, types.SimpleNamespace(uid=70, superuser="postgres", owner="senex", container="postgres"), sockets=str(backup.server.base))
    found.execute = lambda *argv, stdin=None, check=True, **_: backup.server.run(argv, check, stdin or "", "postgres")
    return found


def test_a_dump_and_its_drill(limited, monkeypatch):
    sql = limited.restore.sql
    monkeypatch.setattr(limited.restore, "sql", lambda given, text, *words, **more: sql(given, f"{WAIT}{text}", *words, **more))
    for path in (False, True):
        assert sql(limited.settings, f"{LONG};", "senex", path=path) == "done"
    pathlib.Path(limited.made).unlink()
    limited.restore.dump.make(limited.settings, "manual")
    limited.server.sql("drop database senex with (force)", PGOPTIONS="-c statement_timeout=0")
    assert limited.restore.prove(limited.settings, "newest", "pitr-drill")["rows"] == 100


def test_an_upgrade(limited):
    asked = engine(limited)
    assert asked.rows(LONG, "senex") == [["done"]]
    assert pg_facts.facts(asked)["senex"]["T"]["public.orders"] == "100"
    pg_facts.amcheck(asked, 1)


def test_the_new_clusters_server_whatever_is_in_the_configuration():
    """pg_amcheck and vacuumdb say one thing to all databases; what 17 knows an earlier server would refuse."""
    said = []
    user = types.SimpleNamespace(podman=lambda *words, **_: said.append(words) or types.SimpleNamespace(returncode=0, stdout="", stderr=""))
    for version in (16, 17):
        wanted = types.SimpleNamespace(uid=70, image="x", shared_memory=64, configuration="/c", sockets="/s", version=version)
        pg_server.start(user, wanted, "/data", "/dumps")
        words = next(words for words in reversed(said) if words[0] == "run")
        assert {f"{name}=0" for name in LIMITS} <= set(words) and ("transaction_timeout=0" in words) == (version == 17)


def test_a_moment(limited, monkeypatch):
    def podman(*words, stdin=None, check=True, **_):
        first = next(name for name in ("env", "psql") if name in words)
        return limited.server.run(words[words.index(first) :], check, stdin or "", "postgres")

    monkeypatch.setattr(recovery.database, "podman", podman)
    given = types.SimpleNamespace(superuser="postgres", owner="senex", database="senex", container_uid=70)
    copy = recovery.Server(given, "restored")
    assert copy.sql(LONG) == ["done"]
    assert amcheck.check(copy, ["senex"], "postgres", 1) == ""
    said = []
    answers = {"select name from pg_settings": "transaction_timeout\n"}

    def execute(*words, stdin="", **_):
        said.append(words)
        return types.SimpleNamespace(returncode=0, stdout="".join(answer for question, answer in answers.items() if question in (stdin or "")), stderr="")

    copy.execute = execute
    assert amcheck.check(copy, ["senex"], "postgres", 1) == ""
    options = next(word for words in said for word in words if word.startswith("PGOPTIONS="))
    assert options == f"PGOPTIONS={session.OPTIONS} -c transaction_timeout=0"
    assert amcheck.in_each(["senex", "other"], "select;").count(session.PATIENT_17) == 2, "each is a session of its own"


def test_a_release(limited):
    def podman(*words, stdin, **_):
        return limited.server.run(words[words.index("psql") :], True, f"{WAIT}{stdin}", "postgres")

    assert pre_deploy.restore_point(types.SimpleNamespace(podman=podman), "senex", "postgres", "r", "postgres")


def test_the_scripts_of_the_role(limited):
    """Also a base backup, which waits for a checkpoint, and is taken as a role of its own."""
    script = component("postgresql", senex_database_password="x" * 12)[0]["config/postgresql/roles.sh"][0]
    reconcile = (ROLES / "postgresql/templates/reconcile.sh.j2").read_text()
    for text in (script, reconcile):
        [options] = set(re.findall(r"^export PGOPTIONS='(.*)'$", text, re.MULTILINE))
        assert limited.server.run(["psql", "-XqAt", "-d", "senex", "-c", LONG], user="postgres", PGOPTIONS=options).stdout == "done\n"
    for text in (script, reconcile):
        later = re.search(r"^\[ .*transaction_timeout=0\"$", text, re.MULTILINE)[0]
        for version, more in (("psql (PostgreSQL) 16.10 (Debian 16.10-1)", ""), ("psql (PostgreSQL) 17.6", " -c transaction_timeout=0")):
            done = subprocess.run(["sh", "-euc", f"psql() {{ echo '{version}'; }}; PGOPTIONS=x; {later}; echo \"$PGOPTIONS\""], capture_output=True, text=True)
            assert done.stdout == f"x{more}\n"
    sql = re.search(r"^sql\(\) .*$", reconcile, re.MULTILINE)[0]
    limits = re.search(r"^limits=.*?^fi$", reconcile, re.MULTILINE | re.DOTALL)[0]
    unlimited = {"PGOPTIONS": "-c statement_timeout=0"}  # 20 ms are not much for a machine that has other things to do
    limited.server.sql("create role barman login replication", **unlimited)
    run = ["sh", "-euc", f"archiver=barman\n{sql}\n{limits}"]
    assert limited.server.run(run, user="postgres", **unlimited).stdout == "changed: limits of role barman\n"
    assert limited.server.run(run, user="postgres", **unlimited).stdout == "", "once"
    held = limited.server.sql("select unnest(rolconfig) from pg_roles where rolname = 'barman' order by 1", **unlimited)
    assert held.splitlines() == sorted(f"{name}=0" for name in LIMITS)
    limited.server.sql("drop role barman", **unlimited)


def test_each_session_of_the_superusers_has_one_owner_of_its_options():
    """What a shell script says is what the programs say."""
    for name in ("roles.sh.j2", "reconcile.sh.j2"):
        text = (ROLES / "postgresql/templates" / name).read_text()
        assert session.OPTIONS in text
    python = [path for path in [*ROLES.glob("*/files/**/*.py"), *(ROLES.parent / "plugins").glob("**/*.py")] if "role=none" in path.read_text()]
    assert [path.name for path in python] == ["session.py"]


@pytest.mark.parametrize("role", ["backup", "pitr", "watchdog"])
def test_what_the_programs_import_lies_beside_them(role):
    assert "session" in loaded(ROLES / role / "vars/main.yml")[f"__{role}_postgresql_modules"]

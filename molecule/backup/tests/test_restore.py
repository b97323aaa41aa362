"""A dump restored by the playbook: nothing changes unasked, a broken one changes nothing, and what was there before is kept."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from conftest import BACKUPS
from parts import Applied

ROOT = Path(__file__).parents[3]


def restore(check=True, **inputs):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as handle:
        json.dump(inputs, handle)
        handle.flush()
        command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], "-e", f"@{handle.name}", str(ROOT / "playbooks/restore.yml")]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "COLUMNS": "400"}
        result = Applied(subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment))
    assert not check or result.rc == 0, result.output
    return result


@pytest.fixture(scope="module")
def ready(sent):
    """The command, and a dump of a table that is changed afterwards."""
    backup = sent
    backup.sql("drop table if exists big, ledger; create table ledger (id serial primary key, word citext); create index on ledger (word);"
               "insert into ledger (word) select 'before ' || n from generate_series(1, 5000) n; alter database senex set work_mem = '5MB';")  # fmt: skip
    backup.dump = os.path.basename(backup.made("dump")["path"])
    backup.sql("delete from ledger where id > 10; insert into ledger (word) values ('after')")
    return backup


def databases(backup):
    return backup.sql("select datname from pg_database where not datistemplate order by 1", "postgres").split()


def test_asked_nothing_it_lists(ready):
    result = restore()
    assert ready.dump in result.output and "Nothing was changed" in result.message
    assert result.changed == 0


def test_unconfirmed_it_shows_the_plan(ready):
    before = databases(ready)
    result = restore(restore_dump=ready.dump)
    assert "renamed to senex_before_restore_" in result.message and "restore_confirm=true" in result.message
    assert result.changed == 0 and databases(ready) == before and ready.sql("select count(*) from ledger") == "11"


@pytest.mark.parametrize("damage", ["flip", "wrong rows"])
def test_a_broken_dump_changes_nothing(host, ready, damage):
    """Every other damage of a file is in tests/unit/test_dump_file.py."""
    before, path = databases(ready), f"{BACKUPS}/postgresql/{ready.dump}"
    host.check_output(f"cp -a {path} /root/good; cp -a {path}.json /root/good.json")
    deeds = {
        "flip": f"import os; f = open('{path}', 'r+b'); f.seek(4000); b = f.read(1)[0]; f.seek(4000); f.write(bytes([b ^ 1]))",
        "wrong rows": f"import json; d = json.load(open('{path}.json')); d['tables']['public.ledger'] += 1; json.dump(d, open('{path}.json', 'w'))",
    }
    host.check_output(f'python3 -c "{deeds[damage]}"')
    try:
        result = restore(check=False, restore_dump=ready.dump, restore_confirm=True)
    finally:
        host.check_output(f"cp -a /root/good {path}; cp -a /root/good.json {path}.json")
    assert result.rc and "Nothing was changed" in result.message
    assert ("public.ledger has 5000 rows instead of 5001" if damage == "wrong rows" else f"{ready.dump} is damaged") in result.message
    assert databases(ready) == before and ready.sql("select count(*) from ledger") == "11"
    assert not host.file("/var/lib/senex.trader/deploy.lock").exists


def test_confirmed_it_restores_from_the_storage_alone_and_keeps_what_was(host, ready):
    """As on a new host nothing of the backups is there but what lies off it. From the host's own dumps: tests/integration/recovery."""
    ready.made("offsite")
    host.check_output(f"rm -rf {BACKUPS}/postgresql {BACKUPS}/redis {BACKUPS}/media")
    # Somebody who does not leave: he is sent away, and finds the restored database when he comes back
    ready.podman("exec -d postgres psql -U senex -d senex -c 'select pg_sleep(600)'")
    result = restore(restore_dump=ready.dump, restore_fetch=True, restore_confirm=True, **ready.inputs)
    assert ready.sql("select count(*), max(id), nextval('ledger_id_seq') from ledger") == "5000|5000|5001"
    (aside,) = [name for name in databases(ready) if name.startswith("senex_before_restore_")]
    assert ready.sql("select count(*) from ledger", aside) == "11"
    assert aside in result.output and "kept as" in result.message
    assert ready.sql("show work_mem") == "5MB"
    assert ready.sql("select pg_get_userbyid(datdba), datallowconn from pg_database where datname = 'senex'") == "senex|t"

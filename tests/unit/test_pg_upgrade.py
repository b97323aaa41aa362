"""What an upgrade of PostgreSQL compares and remembers; the upgrade itself is in tests/integration/upgrade."""

import contextlib
import os
from types import SimpleNamespace

import pytest
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError
from ansible_collections.senex.trader.plugins.module_utils.postgresql import cluster_swap, facts, session, upgrade_plan, upgrade_state
from ansible_collections.senex.trader.plugins.module_utils.postgresql import server as pg_server
from ansible_collections.senex.trader.plugins.module_utils.postgresql import upgrade as pg_upgrade

HELD = {
    "": {"R": {"senex": "a", "reader": "b"}, "D": {"senex": "UTF8 C C c senex -1"}, "P": {"data_checksums": "off"}},
    "senex": {"T": {"public.row": "3"}, "S": {"public.row_id_seq": "3"}, "E": {"pg_trgm": "1.6"}, "O": {"indexes": "2"}},
}


def changed(database, kind, name, value):
    """HELD with another value; None takes it away."""
    found = {place: {key: dict(values) for key, values in kinds.items()} for place, kinds in HELD.items()}
    found[database][kind][name] = value
    if value is None:
        del found[database][kind][name]
    return found


def test_the_same_is_no_difference():
    assert facts.differences(HELD, HELD) == []


def test_a_newer_extension_is_no_difference():
    assert facts.differences(HELD, changed("senex", "E", "pg_trgm", "1.7")) == []


@pytest.mark.parametrize(
    ("database", "kind", "name", "value", "sentence"),
    [
        ("senex", "T", "public.row", "2", "table public.row: 3 rows before, 2 rows now (database senex)"),
        ("senex", "T", "public.row", None, "table public.row is missing (database senex)"),
        ("senex", "T", "public.other", "0", "table public.other was not there (database senex)"),
        ("senex", "S", "public.row_id_seq", "1", "sequence public.row_id_seq: at 3 before, at 1 now (database senex)"),
        ("senex", "E", "pg_trgm", None, "extension pg_trgm is missing (database senex)"),
        ("senex", "O", "indexes", "1", "count of indexes: 2 before, 1 now (database senex)"),
        ("", "R", "reader", "c", "role reader is not what it was"),
        ("", "P", "wal_segment_size", "64MB", "property wal_segment_size was not there"),
    ],
)
def test_differences_are_said(database, kind, name, value, sentence):
    assert facts.differences(HELD, changed(database, kind, name, value)) == [sentence]


def test_a_missing_database_is_a_difference():
    assert "table public.row is missing (database senex)" in facts.differences(HELD, {"": HELD[""]})


def test_summary_counts():
    assert facts.summary(HELD) == "1 databases, 3 rows in 1 tables, 1 sequences, 1 extensions, 2 roles"


@pytest.mark.parametrize(("name", "text"), [("senex", "dbname='senex'"), ("a=b 'c' \\d", "dbname='a=b \\'c\\' \\\\d'")])
def test_a_database_is_named_whatever_its_name(name, text):
    assert session.target(name) == f"{text} options='{session.OPTIONS}'"


def test_state_is_kept_for_root_alone_and_forgotten_by_none(tmp_path):
    state = upgrade_state.State(str(tmp_path))
    assert state.phase == "" and state.kept == {}
    state.put(phase="making", to=17)
    assert upgrade_state.State(str(tmp_path)).data == {"phase": "making", "to": 17}
    assert os.stat(tmp_path / upgrade_state.STATE).st_mode & 0o777 == 0o600
    state.put(phase=None)
    assert upgrade_state.State(str(tmp_path)).data == {"to": 17}


def test_a_kept_cluster_that_was_removed_is_not_kept(tmp_path):
    state = upgrade_state.State(str(tmp_path))
    state.put(kept={"data": str(tmp_path / "postgres.15-x")})
    assert state.kept == {}
    (tmp_path / "postgres.15-x").mkdir()
    assert state.kept["data"].endswith("15-x")


def test_a_way_back_that_was_cut_short_is_taken_up_by_the_same_command(tmp_path):
    """What was kept has its old place already; of an upgrade that was cut short there is no way back to take."""
    data, kept = tmp_path / "postgres", {"major": 15, "data": str(tmp_path / "postgres.15-x")}
    data.mkdir()
    (data / "PG_VERSION").write_text("15\n")
    wanted = SimpleNamespace(data=str(data), version=17, unit="postgres.service", container="postgres", superuser="postgres", sockets="/nowhere")
    state = upgrade_state.State(str(tmp_path))
    upgrade = SimpleNamespace(state=state, wanted=wanted, exchange=cluster_swap.ClusterSwap(None, wanted, state))
    state.put(phase="exchanging", to=17, kept=kept, pending={"major": 17, "data": str(tmp_path / "postgres.17-x")}, returns="15-x")
    (tmp_path / "postgres.17-x").mkdir()
    found = upgrade_plan.plan(upgrade, back=True)
    assert (found["way"], found["from"], found["to"], found["resumed"]) == ("back", 17, 15, True)
    # It serves, and its end was not reached: the inventory still asks for the other version, which no role is to start on this data
    (data / "PG_VERSION").write_text("15\n")
    upgrade.exchange.commit()
    found = upgrade_plan.plan(upgrade, back=True)
    assert (found["way"], found["to"], found["returned"]) == ("finish", 15, True)
    state.put(returned=None)
    assert upgrade_plan.plan(upgrade, back=True)["returned"], "as an earlier version has noted it"
    state.put(kept={**kept, "major": 14})
    assert not upgrade_plan.plan(upgrade, back=True)["returned"]
    state.put(phase="exchanging", kept=None, pending={"major": 15}, returns=None)
    with pytest.raises(OSError, match="an upgrade was cut short"):
        upgrade_plan.plan(upgrade, back=True)


def test_the_version_that_wrote_a_directory(tmp_path):
    assert upgrade_state.major_of(str(tmp_path)) is None
    (tmp_path / "PG_VERSION").write_text("15\n")
    assert upgrade_state.major_of(str(tmp_path)) == 15


def test_a_programs_complaint_is_what_it_says_of_errors():
    class Result:
        returncode, stdout = 1, ""
        stderr = "pg_restore: connecting\npg_restore: error: could not execute query: ERROR: no\nDETAIL: more\n"

    error = CommandError(["/usr/bin/podman", "exec", "--interactive", "--user=999", "c", "pg_restore", "-d", "x"], Result())
    assert pg_server.last_words(error) == "pg_restore: pg_restore: error: could not execute query: ERROR: no"


def test_the_new_cluster_shares_as_much_memory_as_production():
    """It runs with production's work_mem."""
    wanted, said = SimpleNamespace(uid=70, image="postgres:17", shared_memory=1728), []
    user = SimpleNamespace(podman=lambda *words, **_: said.append(words))
    pg_server.run_once(user, wanted, "initdb", data="/data")
    assert "--shm-size=1728m" in said[0]


@pytest.mark.parametrize(
    ("row", "version", "options"),
    [
        (["UTF8", "c", "C", "C", "", "off", "16MB"], 17, "--encoding=UTF8 --lc-collate=C --lc-ctype=C --wal-segsize=16"),
        (["UTF8", "c", "C", "C", "", "off", "16MB"], 18, "--encoding=UTF8 --lc-collate=C --lc-ctype=C --no-data-checksums --wal-segsize=16"),
        (["UTF8", "c", "C", "C", "", "on", "1GB"], 18, "--encoding=UTF8 --lc-collate=C --lc-ctype=C --data-checksums --wal-segsize=1024"),
        (["UTF8", "b", "C", "C", "C.UTF-8", "on", "16MB"], 18,
         "--encoding=UTF8 --lc-collate=C --lc-ctype=C --locale-provider=builtin --builtin-locale=C.UTF-8 --data-checksums --wal-segsize=16"),
    ],
)  # fmt: skip
def test_the_new_cluster_is_like_the_old_one(row, version, options):
    assert pg_upgrade.alike(row, version, False) == options.split()


def test_the_place_of_the_data_is_said_to_the_image():
    """From 18 on it has another of its own, and refuses a mount at the old one."""
    wanted, said = SimpleNamespace(uid=70, image="postgres:18", shared_memory=64), []
    pg_server.run_once(SimpleNamespace(podman=lambda *words, **_: said.append(words)), wanted, "initdb", data="/data")
    assert {f"--volume=/data:{pg_server.DATA}", f"--env=PGDATA={pg_server.DATA}", "--image-volume=ignore"} <= set(said[0])


class Asked:
    """A service user whose containers take the logins of some roles."""

    def __init__(self, *roles):
        self.roles, self.words = roles, []

    def podman(self, *words, check=True, **_):
        self.words.append(words)
        user = next(word.removeprefix("--username=") for word in words if word.startswith("--username="))
        return SimpleNamespace(returncode=0 if user in self.roles else 2, stdout="", stderr="")


@pytest.mark.parametrize(("roles", "role"), [(("postgres", "senex"), "postgres"), (("senex",), "senex"), ((), "postgres")])
def test_a_cluster_is_asked_as_its_superuser(roles, role):
    """One of an earlier version, which is kept or not converted yet, knows the application's role alone."""
    user = Asked(*roles)
    server = pg_server.Server(user, SimpleNamespace(uid=70, superuser="postgres", owner="senex", container="postgres"))
    server.rows("select 1")
    assert f"--username={role}" in user.words[-1]


def test_a_cluster_that_is_not_converted_is_not_upgraded(monkeypatch):
    """The new one's superuser would be a role that the old one has not."""
    rows = {upgrade_plan.SIZES: [["senex", "1", "t", "t"]]}
    old = SimpleNamespace(role="senex", rows=lambda text, *_: rows.get(text, []), databases=lambda: [])
    user = SimpleNamespace(podman=lambda *_, **__: SimpleNamespace(stdout="70\n"), home="/nowhere")
    upgrade = SimpleNamespace(user=user, old=old, wanted=SimpleNamespace(version=17, uid=70, superuser="postgres", data="/nowhere/data"),
                              exchange=SimpleNamespace(service=SimpleNamespace(inspect=lambda _: "70")))  # fmt: skip
    monkeypatch.setattr(upgrade_plan, "_too_old_client", lambda *_: [])
    monkeypatch.setattr(upgrade_plan.upgrade_state, "free", lambda _: 1 << 40)
    with pytest.raises(OSError, match="senex_database_superuser: there is no role postgres .* run site.yml first, with postgresql_version 15"):
        upgrade_plan._forward(upgrade, 15)


@pytest.mark.parametrize(("before", "version", "wanted", "option"), [
    ("off", 16, True, "--data-checksums"), ("off", 18, True, "--data-checksums"), ("on", 17, False, "--data-checksums"), ("on", 18, False, "--data-checksums"),
    ("off", 18, False, "--no-data-checksums"), ("off", 17, False, None),
])  # fmt: skip
def test_an_upgrade_gives_no_checksums_up_and_makes_those_that_are_wanted(before, version, wanted, option):
    options = pg_upgrade.alike(["UTF8", "c", "C", "C", "", before, "16MB"], version, wanted)
    assert [word for word in options if "checksums" in word] == ([option] if option else [])
    found = {**HELD, "": {**HELD[""], "P": {"data_checksums": "on"}}}
    assert facts.differences(HELD, found) == [], "gained"
    assert facts.differences(found, HELD) == ["property data_checksums: on before, off now"]


@pytest.mark.parametrize("name", ["prepared transaction t1", "logical replication slot s1", "subscription p1"])
def test_what_a_dump_does_not_hold_is_said_before_anything(monkeypatch, name):
    rows = {upgrade_plan.SIZES: [["senex", "1", "t", "t"]], upgrade_plan.NOT_COPIED: [[name, "drop it"]]}
    old = SimpleNamespace(role="postgres", rows=lambda text, *_: rows.get(text, []), databases=lambda: [])
    user = SimpleNamespace(podman=lambda *_, **__: SimpleNamespace(stdout="70\n"), home="/nowhere")
    upgrade = SimpleNamespace(user=user, old=old, wanted=SimpleNamespace(version=17, uid=70, superuser="postgres", data="/nowhere/data"),
                              exchange=SimpleNamespace(service=SimpleNamespace(inspect=lambda _: "70")))  # fmt: skip
    monkeypatch.setattr(upgrade_plan, "_too_old_client", lambda *_: [])
    monkeypatch.setattr(upgrade_plan.upgrade_state, "free", lambda _: 1 << 40)
    with pytest.raises(OSError, match=f"nothing was changed: {name} would be missing in the new cluster: drop it"):
        upgrade_plan._forward(upgrade, 15)


def test_room_is_looked_at_again_when_the_rehearsal_and_the_dump_are_done(monkeypatch, tmp_path):
    """Both take time, and the dump takes room."""
    state, undone = upgrade_state.State(str(tmp_path)), []
    upgrade = pg_upgrade.Upgrade.__new__(pg_upgrade.Upgrade)
    upgrade.user, upgrade.identity, upgrade.state = None, "x", state
    upgrade.wanted = SimpleNamespace(image="postgres:17", version=17, data=str(tmp_path / "postgres"))
    upgrade.new, upgrade.dumps = f"{upgrade.wanted.data}.upgrade", f"{upgrade.wanted.data}.upgrade.dump"
    upgrade.old = SimpleNamespace(rows=lambda _: [[str(5 << 30)]])
    upgrade.exchange = SimpleNamespace(roll_back=lambda: undone.append(True))
    for step in ("_pull", "_of_its_version", "_make", "_dry_run_schema"):
        setattr(upgrade, step, lambda *_: None)
    upgrade._dump = lambda _: {"dump": {}}
    monkeypatch.setattr(pg_upgrade, "leased", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(upgrade_state, "free", lambda _: 1 << 30)
    with pytest.raises(OSError, match="has 1024 MB free, and the new cluster beside the old one needs about .* serves as before"):
        upgrade.prepare(7)
    assert undone
    monkeypatch.setattr(upgrade_state, "free", lambda _: 1 << 40)
    assert upgrade.prepare(7)["dump"] == {}


@pytest.mark.parametrize("name", ["a\u2028b", "a\x1cb", "a\x85b", "a\tb", "a|b"])
def test_a_table_may_be_called_what_it_likes(name):
    """Python ends a line at some of these, and PostgreSQL does not. On a real server: tests/integration/servers/test_any_name.py."""
    server = pg_server.Server(None, SimpleNamespace(uid=70, superuser="postgres", owner="senex", container="postgres"))
    for said, rows in ((f"T,{name},3\nT,b,\n", [["T", name, "3"], ["T", "b", ""]]), ("\n", [[""]]), ("", [])):
        server.program = lambda *_, said=said, **__: SimpleNamespace(stdout=said)
        assert server.rows("select") == rows


@pytest.mark.parametrize("content", [None, b"local all all peer\n\xff\xfe\n"])
def test_an_hba_file_that_is_none_ends_in_order(monkeypatch, content):
    """It is the service user's: what is no text, or is gone, must not keep the upgrade from putting back what served."""
    written = []
    monkeypatch.setattr(pg_upgrade.fileset, "read", lambda _: (content, (0o644, 0, 0)))
    monkeypatch.setattr(pg_upgrade.fileset, "swap", written.extend)
    work = object.__new__(pg_upgrade.Upgrade)
    work.user = SimpleNamespace(writes=lambda function, *arguments: function(*arguments))
    work.wanted, work.old = SimpleNamespace(configuration="/nowhere"), SimpleNamespace(rows=lambda *_: [])
    if content is None:
        with pytest.raises(OSError, match="/nowhere/pg_hba.conf is missing"):
            work._block_writes()
    else:
        work._block_writes()
        assert b"local all all peer\nhost all all all reject" in written[0][1]

"""What an upgrade of PostgreSQL compares and remembers; the upgrade itself is in tests/integration/upgrade."""

import contextlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError
from ansible_collections.senex.trader.plugins.module_utils.postgresql import cluster_swap, facts, session, upgrade_plan, upgrade_state
from ansible_collections.senex.trader.plugins.module_utils.postgresql import server as pg_server
from ansible_collections.senex.trader.plugins.module_utils.postgresql import upgrade as pg_upgrade
from ansible_collections.senex.trader.plugins.modules import postgresql_upgrade
from controller import ROOT
from rendered import trust_as_template, trusted

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
    state.put(phase="exchanging", to=17, kept=kept, pending={"major": 17}, returns="15-x")
    found = upgrade_plan.plan(upgrade, back=True)
    assert (found["way"], found["from"], found["to"], found["resumed"]) == ("back", 17, 15, True)
    state.put(kept=None, pending={"major": 15}, returns=None)
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


class Host:
    """A service user whose containers and namespaces are the test's own directories."""

    def __init__(self, home):
        self.home, self.running, self.removed = str(home), "", []

    def podman(self, *words, check=True, **_):
        out, code = "", 0
        match words:
            case ("unshare", "sha256sum", "--", path):
                out, code = (Path(path).read_text() + f"  {path}\n", 0) if os.path.exists(path) else ("", 1)
            case ("inspect", *_):
                out = self.running
        return SimpleNamespace(returncode=code, stdout=out, stderr="")

    def image_ids(self, names):
        return {name: f"id-of-{name}" for name in names}

    def does(self, function, *words):
        return function(*words)

    def systemctl(self, *_, **__):
        return None


def cluster(path, major, control="unused"):
    (path / "global").mkdir(parents=True)
    (path / "PG_VERSION").write_text(f"{major}\n")
    (path / "global/pg_control").write_text(control)
    return path


@pytest.fixture
def exchanged(tmp_path, monkeypatch):
    """A run that was killed behind the exchange: 17 has the place of 15."""
    for name, value in {"snapshot": lambda *_: {}, "put_back": lambda *_: None}.items():
        monkeypatch.setattr(upgrade_state, name, value)
    monkeypatch.setattr(cluster_swap, "Server", lambda *_: SimpleNamespace(rows=lambda *_: []))
    state = upgrade_state.State(str(tmp_path / "state"))
    wanted = SimpleNamespace(
        data=str(cluster(tmp_path / "postgres", 15)),
        version=17,
        configuration=str(tmp_path / "nowhere"),
        unit="postgres.service",
        container="postgres",
        superuser="postgres",
        sockets="/nowhere",
    )
    new = cluster(tmp_path / "postgres.upgrade", 17)
    host = Host(tmp_path)

    def discard(_user, _wanted, *paths):
        there = [path for path in paths if os.path.exists(path)]
        host.removed += there
        for path in there:
            shutil.rmtree(path)

    monkeypatch.setattr(cluster_swap.pg_server, "discard", discard)
    exchange = cluster_swap.ClusterSwap(host, wanted, state)
    state.put(phase="making", making=str(new), dumps=str(tmp_path / "dumps"), to=17, image="postgres:17", files={})
    host.running = "postgres:15"
    exchange.swap_in(exchange.describe({}, {}), str(new))
    host.running = ""
    assert upgrade_state.major_of(wanted.data) == 17
    return SimpleNamespace(exchange=exchange, state=state, host=host, data=tmp_path / "postgres", place=tmp_path)


def test_a_new_cluster_that_has_served_is_not_removed(exchanged):
    """Killed before it was settled, and started by hand or at boot: what was written to it lies nowhere else."""
    (exchanged.data / "global/pg_control").write_text("in production")
    (exchanged.data / "written").touch()
    assert exchanged.exchange.is_committed(), "its container is down now, and it goes forward all the same"
    exchanged.exchange.roll_back()
    assert upgrade_state.major_of(str(exchanged.data)) == 15 and exchanged.host.removed == []
    (aside,) = upgrade_state.State(exchanged.state.directory).aside
    assert aside.startswith(f"{exchanged.data}.17-") and os.path.exists(f"{aside}/written")
    upgrade = SimpleNamespace(state=exchanged.state, wanted=SimpleNamespace(data=str(exchanged.data), version=15), exchange=exchanged.exchange)
    assert upgrade_plan.plan(upgrade, back=False)["aside"] == [aside], "each plan names it"
    shutil.rmtree(aside)
    assert upgrade_plan.plan(upgrade, back=False)["aside"] == []


def test_one_of_a_run_of_an_earlier_version_is_kept_too(exchanged):
    """It has not written down what the cluster looked like."""
    exchanged.state.put(control=None)
    assert not exchanged.exchange.is_committed()
    exchanged.exchange.roll_back()
    assert exchanged.host.removed == [] and len(exchanged.state.aside) == 1


def test_one_that_no_server_ran_on_goes(exchanged):
    assert not exchanged.exchange.is_committed()
    exchanged.exchange.roll_back()
    assert upgrade_state.major_of(str(exchanged.data)) == 15
    assert exchanged.state.aside == [] and exchanged.host.removed == [str(exchanged.place / "postgres.upgrade")]


@pytest.mark.parametrize(("running", "complete"), [("id-of-postgres:17 true", True), ("id-of-postgres:17 false", False), ("id-of-postgres:15 true", False)])
def test_an_image_is_known_by_its_id_whatever_its_name(exchanged, running, complete):
    exchanged.host.running = running
    assert exchanged.exchange.is_committed() is complete


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
    """Python ends a line at some of these, and PostgreSQL does not. On a real server: test_any_name.py."""
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


def exchange_tasks(way, **known):
    """The tasks of the exchange that are carried out on this way, block by block; all go well."""
    play = next(play for play in yaml.safe_load((ROOT / "playbooks/upgrade_postgresql.yml").read_text()) if "switch to the new cluster" in play["name"])
    about = {"__upgrade_goes": True, "__operation_trouble": [], "upgrade_plan": {"way": way, "to": 17}, "operation_confirmed": ["lock"], **known}

    def holds(when):
        return Templar(loader=DataLoader(), variables=trusted(about)).template(trust_as_template("{{ (" + when + ") | bool }}"))

    return [
        [task for task in outer.get("block", [outer]) if "when" not in task or holds(task["when"])] if holds(outer["when"]) else [] for outer in play["tasks"]
    ]


def steps(tasks):
    return [(task.get("vars") or {}).get("postgresql_upgrade_step", task["ansible.builtin.include_role"]["name"]) for task in tasks if
            "ansible.builtin.include_role" in task]  # fmt: skip


def test_a_cluster_that_was_accepted_is_not_put_aside_where_what_comes_after_fails():
    """A run that was killed behind the exchange is taken up, and role postgresql fails: what was written since lies in that cluster alone."""
    done, undo, said = exchange_tasks("finish")
    assert steps(done)[:2] == ["settle", "senex.trader.postgresql"] and steps(done).count("settle") == 1
    assert undo == [], "nothing is undone"
    assert "the same command goes on" in str(said)
    done, undo, said = exchange_tasks("forward")
    assert steps(undo) == ["undo"] and steps(done).index("settle") > steps(done).index("senex.trader.postgresql") and said == []
    for way in ("finish", "forward"):
        assert exchange_tasks(way, operation_confirmed=["lock", "switch"])[1:] == [[], []]


def test_what_was_accepted_is_taken_up_by_the_same_command(exchanged, monkeypatch):
    """Its server is down by then: the phase says what it was."""
    (exchanged.data / "global/pg_control").write_text("in production")
    upgrade = SimpleNamespace(state=exchanged.state, wanted=SimpleNamespace(data=str(exchanged.data), version=17), exchange=exchanged.exchange)
    assert upgrade_plan.plan(upgrade, back=False)["way"] == "finish"
    exchanged.exchange.commit()
    exchanged.state.put(control=None)
    assert upgrade_plan.plan(upgrade, back=False)["way"] == "finish" and upgrade_state.major_of(str(exchanged.data)) == 17
    upgrade.left = lambda: ""
    monkeypatch.setattr(postgresql_upgrade, "ServiceUser", lambda *_: SimpleNamespace(check_manager=lambda: None))
    monkeypatch.setattr(postgresql_upgrade, "wanted_of", lambda *_: None)
    monkeypatch.setattr(postgresql_upgrade, "Upgrade", lambda *_: upgrade)
    monkeypatch.setattr(postgresql_upgrade, "leased", lambda *_: contextlib.nullcontext())
    postgresql_upgrade.step({"step": "undo", "user": "senex", "home": "/", "cluster": {}, "id": "x"})
    assert upgrade_state.major_of(str(exchanged.data)) == 17 and exchanged.state.aside == [] and exchanged.state.phase == "finishing"


class Numbered:
    """A server with two databases, which keeps what it is told."""

    def __init__(self, held, broken=False):
        self.held, self.broken, self.told = held, broken, []

    def databases(self):
        return list(self.held)

    def rows(self, text, database="postgres", path=False):
        if text == cluster_swap.sequences.HELD:
            return [[name, str(number)] for name, number in self.held[database].items()]
        if self.broken:
            raise OSError("no answer")
        self.told.append((database, text))
        return []


def test_numbers_that_were_handed_out_on_the_newer_version_are_not_handed_out_again_by_the_older(exchanged):
    more = {"more": {"public.x": 3}, "made_since": {"public.y": 1}}
    newer = Numbered({"senex": {"public.row_id_seq": 7772, "public.other_id_seq": 5, "public.made_since": 9}, **more})
    older = Numbered({"senex": {"public.row_id_seq": 7700, "public.other_id_seq": 5}, "more": {"public.x": 1}})
    before = exchanged.exchange._handed_out(newer)
    assert exchanged.exchange._go_on(older, before) == "sequences raised beyond what was handed out since: 2"
    assert [name for name, _ in older.told] == ["senex", "more"]
    assert "8772" in older.told[0][1] and "public.row_id_seq" in older.told[0][1] and "other_id_seq" not in older.told[0][1]
    assert exchanged.exchange._go_on(Numbered(newer.held), before) == "no sequence had handed out more since"
    assert "will be handed out again: no answer" in exchanged.exchange._go_on(Numbered(older.held, broken=True), before)


def test_the_way_back_raises_them_when_the_older_one_is_found_to_be_what_it_was(exchanged, monkeypatch):
    exchanged.exchange.commit()
    monkeypatch.setattr(exchanged.exchange.service, "inspect", lambda *_: "postgres:17")
    servers, order = [Numbered({"senex": {"public.s": 20}}), Numbered({"senex": {"public.s": 10}})], []
    monkeypatch.setattr(cluster_swap, "Server", lambda *_: servers[len(order) > 0])
    for name, value in {"facts": {}, "differences": [], "summary": "12 rows", "amcheck": None}.items():
        monkeypatch.setattr(cluster_swap.pg_facts, name, lambda *_, value=value: value)
    for name in ("swap_in", "roll_back"):
        monkeypatch.setattr(exchanged.exchange, name, lambda *_, name=name: order.append(name))
    assert exchanged.exchange.revert(1)["checked"] == "12 rows; sequences raised beyond what was handed out since: 1"
    assert order == ["swap_in"] and [name for name, _ in servers[1].told] == ["senex"] and servers[0].told == []

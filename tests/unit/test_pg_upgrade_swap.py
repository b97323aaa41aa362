"""The exchange of clusters in an upgrade of PostgreSQL, and the way back."""

import contextlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.senex.trader.plugins.module_utils.postgresql import cluster_swap, upgrade_plan, upgrade_state
from ansible_collections.senex.trader.plugins.modules import postgresql_upgrade
from controller import ROOT
from rendered import trust_as_template, trusted


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

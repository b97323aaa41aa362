"""The lock of an operation on hosts where no step of it runs: an operation that lives never loses it, however long workers of other hosts drain."""

import time

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.senex.trader.plugins.module_utils.host import release_record
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger, LockHeld, LockLost
from ansible_collections.senex.trader.plugins.module_utils.release import application_units
from ansible_collections.senex.trader.plugins.modules import release
from ansible_collections.senex.trader.plugins.plugin_utils.components import hosts_pattern
from controller import ROOT
from patterns import plays
from rendered import ROLES, loaded, trust_as_template, trusted

OPERATIONS = ("restore", "upgrade_postgresql", "checksums")
MINE, THEIRS = ({"id": name, "what": f"restore {name}", "who": f"{name}@desk"} for name in ("mine", "theirs"))


def begins(tasks):
    """Every task that takes a lock."""
    for task in tasks:
        asked = task.get("senex.trader.release", {})
        if asked.get("step") == "begin":
            yield asked
        for inner in ("block", "rescue"):
            yield from begins(task.get(inner, []))


def worked_out(text, variables, **more):
    return float(Templar(loader=DataLoader(), variables=trusted({**variables, **more})).template(trust_as_template(text)))


def leases():
    """What each operation asks for on each host of an inventory."""
    operation = yaml.safe_load((ROOT / "playbooks/vars/operation.yml").read_text())
    for name in OPERATIONS:
        variables = {
            "groups": {"postgresql": ["data"], "celery": ["work"]},
            "__operation_lock_lease": operation["__operation_lock_lease"],
            "__restore_target": "data",
        }
        for asked in begins([task for play in plays(name) for task in play["tasks"]]):
            for host in ("data", "work"):
                yield pytest.param(worked_out(asked.get("lease", "0"), variables, inventory_hostname=host), id=f"{name} {host}")


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(release_record, "BOOT", str(tmp_path / "boot"))
    return Ledger(str(tmp_path))


def after(monkeypatch, seconds):
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr(release_record.time, "clock_gettime", lambda _clock: now + seconds)


@pytest.mark.parametrize("lease", list(leases()))
def test_the_longest_drain_elsewhere_does_not_free_the_lock(ledger, monkeypatch, lease):
    ledger.begin({**MINE, **({"lease": lease} if lease else {})})
    after(monkeypatch, application_units.LONGEST + 600)
    with pytest.raises(LockHeld, match="restore mine"):
        ledger.begin(THEIRS)


def test_a_large_cluster_has_its_time():
    lease = yaml.safe_load((ROOT / "playbooks/vars/operation.yml").read_text())["__operation_lock_lease"]
    assert worked_out(lease, {}, __operation_bytes=500 << 30) == 500 << 10
    for name in ("upgrade", "checksums"):
        assert "bytes" in yaml.safe_load((ROOT / f"playbooks/vars/{name}.yml").read_text())["__operation_bytes"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_host_gives_a_sign_of_life_before_the_exchange(name):
    found = plays(name)
    (switch,) = [number for number, play in enumerate(found) if play.get("vars", {}).get("operation_stage") == "switch"]
    before = found[switch - 1]
    assert "tasks/renew.yml" in str(before["tasks"]) and before["hosts"] == hosts_pattern()


def test_a_sign_of_life_renews_the_lock_and_nobody_elses(ledger, monkeypatch):
    monkeypatch.setattr(release, "Ledger", lambda: ledger)
    given = {"step": "renew", "id": "mine", "what": ""}
    ledger.begin({**MINE, "lease": 100})
    after(monkeypatch, 90)
    release.ledger_step(given)
    after(monkeypatch, 90)
    with pytest.raises(LockHeld):
        ledger.begin(THEIRS)
    ledger.begin(THEIRS, "any")
    with pytest.raises(LockLost):
        release.ledger_step(given)


@pytest.mark.parametrize(("timeouts", "wanted"), [([], 1800), ([300, 14400], 16200)])
def test_a_release_and_a_rotation_bear_the_drain_of_workers(timeouts, wanted):
    hosts = {f"w{number}": {"celery_stop_timeout": seconds} for number, seconds in enumerate(timeouts)} | ({"plain": {}} if timeouts else {})
    variables = {"groups": {"celery": list(hosts)}, "hostvars": hosts}
    (locking,) = [one for play in plays("rotate") for one in play.get("tasks", []) if "tasks/lock.yml" in str(one)]
    for text in (loaded(ROLES.parent / "playbooks/vars/release.yml")["__release_lock_lease"], locking["vars"]["lock_lease"]):
        assert worked_out(text, variables) == wanted
    assert "lock_lease" in str(yaml.safe_load((ROOT / "playbooks/tasks/lock.yml").read_text()))
    assert all(asked["lease"] == "{{ __release_lock_lease }}" for asked in begins(yaml.safe_load((ROLES.parent / "playbooks/release/prepare.yml").read_text())))

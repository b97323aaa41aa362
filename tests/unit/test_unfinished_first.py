"""After an operation that was killed, the first thing that is said is that it has not come to its end, and what to type."""

import json
import time

import pytest
from watched import Fake, settings

from senex_ops import checks_release, status  # isort: skip
from senex_ops.findings import FAIL, OK, Check, fail, ok, warn  # isort: skip

HOLDER = {"id": "x", "what": "restore", "who": "anna@desk", "step": "restore a copy", "lease": 28800, "boot": "b"}
WEB = Check("web", lambda *_: None, lambda *_: [fail("web-1", "is inactive", "senex restart web-1")])
WELL = Check("disk", lambda *_: None, lambda *_: [ok("disk", "has room"), warn("image", "is old", "take a new one")])


@pytest.fixture
def looked(monkeypatch, tmp_path):
    """What status says beside a lock that was renewed so many seconds ago."""
    monkeypatch.setattr(checks_release, "LOCK", str(tmp_path / "deploy.lock"))
    monkeypatch.setattr(checks_release, "BOOT", str(tmp_path / "boot"))
    (tmp_path / "boot").write_text("b\n")
    release = next(one for one in status.CHECKS if one.name == "release")

    def look(*checks, ago=100, **more):
        if ago is not None:
            now = {"renewed": time.time() - ago, "uptime": time.clock_gettime(time.CLOCK_BOOTTIME) - ago}
            (tmp_path / "deploy.lock").write_text(json.dumps({**HOLDER, **now, **more}))
        return [(name, one.level, one.says, one.do) for name, one in status.look(Fake(), settings(), [*checks, release])]

    return look


@pytest.mark.parametrize("more", [{}, {"boot": "another", "lease": 1e9}], ids=["killed", "after a reboot"])
def test_it_comes_first_and_is_no_good_news(looked, more):
    """It was the last of nine lines and said OK, below eight that failed by it."""
    (name, level, says, do), *others = looked(WEB, **more)
    assert (name, level) == ("release", FAIL) and [one[0] for one in others] == ["web"]
    assert says.startswith("restore by anna@desk has not come to its end: at 'restore a copy', last seen ")
    assert "the same ansible-playbook playbooks/restore.yml … again" in do and "-e release_take_over=true" in do


def test_beside_what_is_well_one_is_under_way(looked):
    assert [(name, level) for name, level, *_ in looked(WELL)] == [("disk", OK), ("disk", "WARN"), ("release", OK)]


@pytest.mark.parametrize("more", [{"ago": None}, {"passing": True}], ids=["none", "site.yml"])
def test_where_none_is_under_way_the_order_is_as_ever(looked, more):
    assert [(name, level) for name, level, *_ in looked(WEB, **more)] == [("web", FAIL), ("release", OK)]


NAMED = {
    "restore": "restore",
    "upgrade of PostgreSQL 15 to 17": "upgrade_postgresql",
    "rotation of x": "rotate",
    "deploy of 2": "deploy",
    "rollback of 1": "rollback",
    "update of images (redis)": "update_images",
    "data checksums": "checksums",
    "removal of everything": "remove",
    "": "deploy",
}


@pytest.mark.parametrize(("what", "playbook"), NAMED.items())
def test_a_stale_one_names_its_own_playbook(looked, what, playbook):
    """A restore that was killed was to be ended by a deploy."""
    name, level, _says, do = looked(WEB, ago=30000, what=what)[0]
    assert (name, level) == ("release", FAIL) and f"playbooks/{playbook}.yml … again takes its lock over" in do

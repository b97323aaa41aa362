"""What reads a home as root outside the engine, the fact script, the watchdog and `senex status`: shows nothing, waits for nothing."""

import importlib.util
import json

import pytest
import rendered
import watched
from hostile import KINDS, ROOT_ALONE, secret_of

from senex_ops import checks_backups, checks_certificates  # isort: skip

pytestmark = [ROOT_ALONE, pytest.mark.usefixtures("impatient")]


@pytest.fixture(scope="module")
def fact(tmp_path_factory):
    path = tmp_path_factory.mktemp("facts") / "senex_fact.py"
    path.write_text(rendered.value("common", "__common_fact_script"))
    specification = importlib.util.spec_from_file_location("senex_fact", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", KINDS)
def test_the_fact_script_shows_none_of_it(ground, fact, kind):
    ground.directory("home/data")
    ground.directory("home/data/postgres", 0o700)
    ground.directory("home/.config/containers")
    for name in ("data/postgres/PG_VERSION", ".config/containers/auth.json"):
        ground.plant(f"home/{name}", kind)
    ground.directory("home/config")
    for name in ("redis", "redis/tls"):
        ground.directory(f"home/config/{name}")
    ground.plant("home/config/redis/tls/x.crt", kind)
    below = fact.of_homes([str(ground.home)])
    shown = {path: fact.text(one) for path, one in below.items() if path.endswith(".crt")}
    assert fact.postgresql_majors(below) == {} and fact.certificates(shown) == {} and not secret_of(fact.postgresql_majors(below))
    if kind != "words":  # a file of the user's own is a login, whatever is in it
        assert fact.login_digest(below.get(f"{ground.home}/.config/containers/auth.json", {})) is None


def test_the_fact_script_finds_what_is_there(ground, fact):
    ground.directory("home/data")
    ground.directory("home/data/postgres", 0o700)
    ground.file("home/data/postgres/PG_VERSION", "15\n")
    assert fact.postgresql_majors(fact.of_homes([str(ground.home)])) == {f"{ground.home}/data/postgres": "15"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_watchdog_and_status_go_on(ground, kind):
    ground.directory("home/backups")
    ground.directory("home/backups/status")
    ground.plant("home/backups/status/dump.json", kind)
    ground.file("home/backups/status/redis.json", json.dumps({"job": "x; curl | sh", "result": "failed", "error": "a\nOK  b \x1b[1m\ud800"}))
    ground.file("home/backups/status/$(id).json", "{}")
    settings = watched.settings(home=str(ground.home), certificates=[f"{ground.home}/backups/status/dump.json"])
    found = checks_backups.judge_backups(checks_backups.read_backups(None, settings), settings, 0.0)
    assert [one.key for one in found] == ["backup dump", "backup redis"] and found[0].says == "its status file cannot be read"
    assert found[1].says == "failed: a OK b ?[1m?" and not secret_of(found)
    for sources, history in (
        ({"bucket": {"result": "failed", "error": "a\nOK  b \x1b[1m", "proved": ["x"]}}, [7, {"rto_seconds": 10**400}]),
        (5, "x"),
        (None, {}),
    ):
        ground.file("home/backups/status/drill.json", json.dumps({"result": "failed", "error": "c", "sources": sources, "history": history}))
        found = checks_backups.judge_backups(checks_backups.read_backups(None, settings), settings, 0.0)
        assert [one.says for one in found if one.key == "backup drill"] in (["failed: a OK b ?[1m; restored from the bucket alone"], ["failed: c"])
    host = watched.Fake()
    host.ended = {"openssl": watched.host.Ended(1, "", "no certificate")}
    assert not secret_of(checks_certificates.read_certificates(host, settings))

"""Releases whose migrations the version before cannot bear: refused, made with the site closed, and what becomes of the site where they fail."""

import shlex

import pytest
from applications import CRASH, ONE_WAY, RENAMED, image
from load import Load
from releases import SETTINGS, applied, deploy, records, release, unlocked, versions
from stack import wait

FLAGS = "/etc/nginx/senex/maintenance.on /etc/nginx/senex/stopped.on"
GOES_ON = "ansible-playbook playbooks/deploy.yml -i inventory/production -e django_image_tag=TAG -e release_maintenance=true"


@pytest.fixture(scope="module")
def served(stack):
    stack.play(variables=SETTINGS, tags="nginx").expect()
    if versions(stack) != {"1"}:
        deploy(stack, "1").expect()
    return stack


@pytest.fixture(scope="module")
def made(stack, tmp_path_factory):
    """made(tag, files): what a deploy of such an image is given."""
    directory = tmp_path_factory.mktemp("images")
    return lambda tag, files: {"django_image_tag": tag, "senex_image_from": str(image(stack, directory, tag, files))}


def closed(stack):
    return stack.ssh(f"ls {FLAGS}").returncode == 0


def serves(stack, version):
    assert versions(stack) == {version} and unlocked(stack) and not stack.inactive() and stack.healthy()
    assert stack.ssh(f"ls {FLAGS} 2>/dev/null").stdout == "" and stack.ssh("test -e /var/lib/senex.trader/application-rests").returncode != 0
    stack.task_runs()


def test_a_release_with_the_site_closed(served, made, figure):
    """Its application writes as it starts, also where only its migrations are asked for. Nobody gets an error, no task is lost or run twice."""
    given = made("3", RENAMED)
    play = release(served, "deploy", **given)
    assert play.code != 0 and "probe_row.sealed is renamed" in play.errors[-1] and "release_maintenance=true closes the site" in play.errors[-1]
    served.post("/api/rows/", {"text": "of before"})
    for number in range(12):
        served.post("/api/tasks/", {"kind": "sleep", "seconds": 2, "key": f"closed-{number}"})
    with Load(served, limit=600) as load:
        play = release(served, "deploy", release_maintenance=True, **given).expect()
    serves(served, "3")
    assert applied(served)[-1] == "0003_row_body"
    assert {said.split()[0] for *_, said in load.failures} == {"503"}, "an error, or no page at all"
    seconds = records(served)[-1]["closed"]
    figure("closed for a release in maintenance", seconds)
    assert 1 < seconds < 300 and f"the site was closed for {seconds} s" in play.output
    first, last = load.failures[0][0], load.failures[-1][0]
    assert last - first <= seconds + 2, "the page was there longer than is said"
    wait(lambda: '"finished": 12' in served.get("/api/ledger/?prefix=closed-")[1], 60, "all tasks that were queued")
    assert '"twice": {}' in served.get("/api/ledger/?prefix=closed-")[1]
    with Load(served, limit=600) as load:
        release(served, "rollback", release_maintenance=True, release_undo_migrations=True).expect()
    serves(served, "1")
    assert applied(served)[-1] == "0002_heartbeat_schedule" and {said.split()[0] for *_, said in load.failures} == {"503"}
    assert '"text": "of before"' in served.get("/api/rows/")[1]


def test_one_that_does_not_come_up_goes_back_with_its_migrations(served, made):
    play = release(served, "deploy", release_maintenance=True, **made("4", {**RENAMED, **CRASH}))
    said = play.errors[-1]
    assert play.code != 0 and "web-1.service did not come up" in said and "Its migrations were undone: probe.0003_row_body." in said
    assert "Its image on this host: registry.senex.test:5000/senex/demo:4, sha256:" in said and "demo:1 serves, as before. The site was closed for" in said
    serves(served, "1")
    assert applied(served)[-1] == "0002_heartbeat_schedule" and records(served)[-1]["result"] == "switched back"


@pytest.mark.faults
def test_the_page_stands_where_nothing_can_be_undone(served, made):
    play = release(served, "deploy", release_maintenance=True, **made("5", {**ONE_WAY, **CRASH}))
    said = play.errors[-1]
    assert play.code != 0 and "The maintenance page stands" in said and "probe.0004_one_way cannot be undone" in said and "pre-deploy-" in said
    assert closed(served) and served.get("/")[0] == 503 and served.get("/health/")[0] == 503 and served.get("/health/simple/") == (200, "maintenance")
    assert records(served)[-1]["result"] == "not switched back" and unlocked(served)
    given = made("6", ONE_WAY)
    refused = release(served, "deploy", **given)
    assert refused.code != 0 and "the site is closed" in refused.errors[-1] and closed(served)
    words = dict(word.split("=") for word in shlex.split(GOES_ON) if "=" in word)
    release(served, "deploy", **{**words, "release_maintenance": True, **given}).expect()
    serves(served, "6")
    assert records(served)[-1]["migrations"] == ["probe.0003_row_body", "probe.0004_one_way"], "a rollback from here has to know them"
    assert applied(served)[-1] == "0004_one_way" and records(served)[-1]["closed"] > records(served)[-2].get("closed", 0)

"""An environment that gives up Redis, Celery and Beat: a host that had them goes on without."""

import shutil

import pytest
import yaml
from releases import SETTINGS, versions
from stack import HOME, ROOT, UID, failures

pytestmark = pytest.mark.faults

LEFT_OUT = ("redis", "celery", "celery_beat")
THEIRS = ("redis.service", "redis-cache.service", "celery-worker.service", "celery-beat.service")


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """The demo's inventory without these groups, and with the settings of an application that needs none of them."""
    place = tmp_path_factory.mktemp("environment") / "demo"
    shutil.copytree(ROOT / "inventory/demo", place)
    hosts = yaml.safe_load((place / "hosts.yml").read_text(encoding="utf-8"))
    for group in LEFT_OUT:
        hosts["all"]["children"][group] = {"hosts": {}}
    (place / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
    inputs = {**SETTINGS, "senex_django_settings_module": "demo.alone", "senex_redis_cache_instance": False}
    (place / "group_vars/all/tested.yml").write_text(yaml.safe_dump(inputs), encoding="utf-8")
    return place


def said(play):
    return " ".join(play.output.split())


def known(stack):
    """Which of their units the service user's systemd knows."""
    units = stack.user("systemctl", "--user", "list-units", "--all", "--plain", "--no-legend")
    return [unit for unit in THEIRS if unit in units.split()]


def test_what_is_left_out_goes_on_until_it_is_removed(stack, without):
    """The application is told first; what the host had is neither stopped nor changed, and each run says so."""
    had = known(stack)
    assert {"redis.service", "celery-worker.service", "celery-beat.service"} <= set(had)
    play = stack.play(inventory=without).expect()
    assert "still has redis, celery (redis.service" in said(play) and "-e redis_state=absent -e celery_state=absent" in said(play)
    assert known(stack) == had and not [line for line in play.plan if "celery" in line or " redis" in line]
    told = stack.user("podman", "exec", "web-1", "env")
    assert "DB_HOST=postgres" in told and "REDIS_URL" not in told and "CELERY_" not in told
    again = stack.play(inventory=without).expect()
    assert again.changed == [] and "still has redis, celery" in said(again)


def test_it_is_removed_as_the_run_says(stack, without):
    """Its data stays."""
    stack.play(tags="redis,celery", variables={"redis_state": "absent", "celery_state": "absent"}).expect()
    assert known(stack) == [] and stack.healthy()
    assert stack.sh(f"ls {HOME}/data/redis").strip()
    # What the others may take grows once by the memory of what is gone
    play = stack.play(inventory=without).expect()
    assert "still has" not in said(play)
    assert stack.play(inventory=without).expect().changed == []


def test_nobody_misses_it(stack, without):
    """Neither status nor watchdog, nor a timer of backups."""
    status = stack.sh("senex status")
    assert not [word for word in ("redis", "celery", "beat", "queue") if word in status.lower()], status
    timers = stack.sh(f"ls {HOME}/.config/systemd/user /run/user/{UID}/systemd/generator 2>/dev/null")
    assert "backup-dump.timer" in timers and "backup-redis" not in timers and "celery" not in timers
    stack.play(playbook="playbooks/status.yml", tags="all", inventory=without).expect()


def test_releases_do_without_it(stack, without):
    deploy_to = {"inventory": without}
    stack.play(playbook="playbooks/deploy.yml", tags="all", variables={"django_image_tag": "2"}, timeout=900, **deploy_to).expect()
    assert versions(stack) == {"2"} and known(stack) == []
    stack.play(playbook="playbooks/rollback.yml", tags="all", variables={"release_undo_migrations": True}, timeout=900, **deploy_to).expect()
    assert versions(stack) == {"1"} and not failures(stack.ssh("senex status").stdout)


def test_its_secrets_are_not_offered_for_rotation(stack, without):
    play = stack.play(playbook="playbooks/rotate.yml", tags="all", inventory=without).expect()
    assert "database_password (last" in said(play) and "redis_password" not in said(play) and "flower_password" not in said(play)


def test_workers_without_redis_are_refused(stack, without):
    hosts = yaml.safe_load((without / "hosts.yml").read_text(encoding="utf-8"))
    hosts["all"]["children"]["celery"] = {"hosts": {"demo": {}}}
    (without / "more.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
    play = stack.play("-i", str(without / "more.yml"), inventory=without)
    assert play.code != 0 and "group celery: has demo, and its queue lies in Redis" in " ".join(play.errors)

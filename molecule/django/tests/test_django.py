"""The web tier as nginx, the kernel and PostgreSQL see it. The order matters: the later tests change the role's inputs."""

import hashlib
import json

from conftest import Polled
from parts import HOME, HOSTILE, SYSTEMCTL, apply

ENV = f"{HOME}/.config/containers/systemd/.env"
FILES = f"{HOME}/.config/containers/systemd/web-*.container {HOME}/.config/containers/systemd/release.container {HOME}/config/django/* {ENV}"


def started(parts):
    return [part.started for part in parts]


def sql(others, statement):
    return others[0].script(f'psql -U senex -d senex -Atc "{statement}"').stdout.strip()


def test_instances_answer_on_loopback_alone(host, web):
    for number in (1, 2):
        status, body = web[number].get("/health/")
        assert (status, json.loads(body)["status"]) == (200, "ok")
    listening = {line.split()[3] for line in host.check_output("ss -Hltn").splitlines()}
    assert {address for address in listening if address.split(":")[-1][:2] == "80"} == {"127.0.0.1:8001", "127.0.0.1:8002"}


def test_containers_are_confined(web):
    for number in (1, 2):
        web[number].is_confined(uid=1000)
        assert web[number].script("echo x >/tmp/x && echo x >/app/media/x && rm /app/media/x && echo x >/var/log/app/x.log").rc == 0
        assert "Read-only" in web[number].script("touch /app/staticfiles/x").stderr


def test_environment_file_is_the_service_users_alone(host):
    file = host.file(ENV)
    assert (file.user, file.group, oct(file.mode)) == ("senex", "senex", "0o600")
    assert host.run(f"runuser -u www-data -- cat {ENV}").rc != 0


def test_static_files_are_there_for_nginx(host):
    found = host.check_output(f"cd / && runuser -u www-data -- find {HOME}/data/staticfiles -name '*.css'")
    assert "/probe/site." in found
    assert host.run(f"runuser -u www-data -- cat {found.split()[0]}").rc == 0


def test_static_files_of_the_release_lie_apart(host, web):
    """An instance reads its own release's manifest; nginx has the files of all."""
    own = host.check_output(f"cd {HOME}/data/static/1 && find . -type f | sort | xargs sha256sum")
    assert "staticfiles.json" in own
    assert host.check_output(f"cd {HOME}/data/staticfiles && find . -type f | sort | xargs sha256sum") == own
    assert web[1].script("cat /app/staticfiles/staticfiles.json | sha256sum").stdout.split()[0] in own


def test_migration_that_cannot_lock_gives_up_and_says_who_holds_it(host, web, others):
    holder = "begin; select count(*) from probe_row; select pg_sleep(60)"
    others[0].podman(f'exec --detach postgres psql -U senex -d senex -c "{holder}"')
    refused = apply({"senex_image_tag": "2", "django_migration_lock_timeout": 2}, check=False)
    assert refused.rc != 0
    for sentence in ('waited 2 s for a lock on "probe_row"', "Held now by: process", "AccessShareLock", "The files from before are back"):
        assert sentence in refused.message.replace('\\"', '"'), refused.output
    sql(others, "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid()")
    assert [web[number].version for number in (1, 2)] == ["1", "1"]


def test_release_ran_once(host, web, others):
    """The role ran twice until now. Nor is any migration in the books twice."""
    journal = host.check_output("journalctl _SYSTEMD_USER_UNIT=release.service _UID=987 --no-pager -q")
    assert journal.count("release: migrate done") == 1
    twice = sql(others, "select app, name from django_migrations group by 1, 2 having count(*) > 1")
    assert (twice, int(sql(others, "select count(*) from django_migrations where app = 'probe'")) > 1) == ("", True)


def test_release_command_run_by_hand_changes_nothing(host, others):
    before = sql(others, "select count(*), max(applied) from django_migrations")
    host.check_output(f"{SYSTEMCTL} restart release.service")
    assert sql(others, "select count(*), max(applied) from django_migrations") == before


def test_deployment_check_is_clean(web):
    checked = web[1].script("python /app/manage.py check --deploy --fail-level WARNING 2>&1")
    assert (checked.rc, "no issues" in checked.stdout) == (0, True), checked.stdout


def test_hostile_values_arrive_one_instance_at_a_time(host, web, others):
    untouched, before = started(others), started([web[1], web[2]])
    values = {"SECRET_KEY": HOSTILE, "CANARY": HOSTILE.replace("{{", "{")}  # double braces in a dictionary's value would be a template
    with Polled(host, 8001, 8002) as polled:
        apply({"senex_secret_key": values["SECRET_KEY"], "senex_extra_environment": {"CANARY": values["CANARY"]}})
    assert polled.all_down == []
    assert polled.was_down(8001) and polled.was_down(8002)
    assert started(others) == untouched
    assert all(new != old for new, old in zip(started([web[1], web[2]]), before, strict=True))
    for name, value in values.items():
        digest = hashlib.sha256(value.encode()).hexdigest()
        assert web[2].podman(f"exec web-2 python /app/manage.py envcheck {name}").strip() == digest, name
    assert f"SECRET_KEY={HOSTILE}\n" in host.file(ENV).content_string


def test_what_cannot_be_is_refused(host, web):
    """What check.yml cannot know; the rest is in tests/unit/test_input_checks.py."""

    def state():
        return started([web[1], web[2]]), host.check_output(f"cat {FILES} | sha256sum")

    before = state()
    refused = apply({"senex_extra_environment": {"MOTD": "two\nlines"}}, check=False)
    assert refused.rc != 0
    assert "MOTD: the value contains a newline" in refused.message, refused.output
    assert state() == before

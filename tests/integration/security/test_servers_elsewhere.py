"""PostgreSQL of somebody else's: a server beside the host, that the collection knows nothing of, with a certificate of another authority."""

import json
import os
import secrets
import shlex
import subprocess

import pytest
import yaml
from releases import SETTINGS, records, unlocked, versions
from rotations import Environment
from stack import AS_USER, LAB, wait

NAME = "theirs"
ADDRESS = f"{os.environ.get('SENEX_LAB_PREFIX') or '10.203.0'}.40"
# Before its first start. Its role owns its database and is no superuser, and comes in by TLS alone
BEGIN = """
set -eu
mkdir -p /theirs; cd /theirs
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=their authority' -keyout ca.key -out ca.crt 2>/dev/null
openssl req -newkey rsa:2048 -nodes -subj '/CN=theirs' -keyout server.key -out server.csr 2>/dev/null
printf 'subjectAltName=IP:%s\\n' "$ADDRESS" > san
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.crt 2>/dev/null
chmod 0600 server.key; chown postgres server.key server.crt
cat > /docker-entrypoint-initdb.d/theirs.sh <<'END'
printf "ssl = on\\nssl_key_file = '/theirs/server.key'\\nssl_cert_file = '/theirs/server.crt'\\n" >> "$PGDATA/postgresql.conf"
printf "local all all trust\\nhostssl all all all scram-sha-256\\n" > "$PGDATA/pg_hba.conf"
psql -v ON_ERROR_STOP=1 -U postgres -c "create role shop login password '$THEIRS'" -c "create database shop owner shop"
END
exec docker-entrypoint.sh postgres
"""


def lab(*words):
    done = subprocess.run([LAB, "run", "--", "podman", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def asked(query):
    """What their server answers at its socket."""
    return lab("exec", NAME, "psql", "-XqAt", "-U", "shop", "-d", "shop", "-c", query).strip()


@pytest.fixture(scope="module")
def theirs():
    """Address, password and authority of their server, in a network that the host reaches."""
    password = secrets.token_urlsafe(12) + "@:/?#%"
    subprocess.run([LAB, "run", "--", "podman", "rm", "--force", "--time=0", NAME], capture_output=True, check=False)
    try:
        lab("run", "--detach", f"--name={NAME}", "--network=senex-lab", f"--ip={ADDRESS}", f"--env=THEIRS={password}", f"--env=ADDRESS={ADDRESS}",
            "--env=POSTGRES_PASSWORD=x", "--privileged", "--user=root", "--entrypoint=bash", "localhost/senex-lab/postgres:latest", "-c", BEGIN)  # fmt: skip
        wait(lambda: asked("select 1") == "1", 60, "their server")
        yield {"host": ADDRESS, "password": password, "ca": lab("exec", NAME, "cat", "/theirs/ca.crt")}
    finally:
        lab("rm", "--force", "--time=0", "--volumes", NAME)


@pytest.fixture(scope="module")
def env(stack, theirs, tmp_path_factory):
    """The environment without a host in the group postgresql."""
    inputs = {
        **SETTINGS,
        "senex_database_host": theirs["host"], "senex_database_name": "shop", "senex_database_user": "shop",
        "senex_database_password": theirs["password"], "senex_database_ca_certificate": theirs["ca"],
        "senex_extra_environment": {"DATABASE_URL": "{{ senex_database_url }}"},
    }  # fmt: skip
    made = Environment(tmp_path_factory.mktemp("environment"), inputs)
    hosts = made.inventory / "hosts.yml"
    known = yaml.safe_load(hosts.read_text())
    emptied(known)
    hosts.write_text(yaml.safe_dump(known))
    return made


def emptied(groups):
    """Without the hosts of the group postgresql, wherever it is nested."""
    for name, group in (groups or {}).items():
        if name == "postgresql":
            groups[name] = {"hosts": {}}
        elif isinstance(group, dict):
            emptied(group)


@pytest.fixture(scope="module")
def moved(stack, env):
    """The application on their server, while the one of the host's own runs on; and back."""
    play = stack.play(inventory=env.inventory).expect()
    stack.ready(180)
    yield play
    stack.play(variables=SETTINGS).expect()
    stack.ready(180)


def test_the_application_is_served_by_it_with_its_certificate_verified(stack, theirs, moved):
    script = (
        "import os, psycopg; c = psycopg.connect(os.environ['DATABASE_URL']); "
        "print(c.execute('select current_user').fetchone()[0], c.info.dsn, c.execute('select count(*) from django_migrations').fetchone()[0] > 0)"
    )
    said = stack.user("podman", "exec", "web-1", "python", "-c", script)
    assert said.startswith("shop ") and "sslmode=verify-full" in said and said.strip().endswith("True")
    stack.post("/api/rows/", {"text": "on their server"})
    assert int(asked("select count(*) from probe_row")) > 0
    stack.task_runs()


def test_a_second_run_changes_nothing(stack, env, moved):
    play = stack.play(inventory=env.inventory).expect()
    assert play.changed == [] and play.restarts() == []


def test_preflight_and_status_say_whose_backups_they_are(stack, env, theirs, moved):
    said = stack.play(playbook="playbooks/preflight.yml", tags="all", inventory=env.inventory, variables={"preflight_json": True}).output
    assert (
        f"database {theirs['host']}:5432" in said and "takes connections; backups, restores, upgrades and rotation of its password are the provider's" in said
    )
    found = json.loads(stack.sh("senex status --json || true"))["findings"]
    assert [one["level"] for one in found if one["key"] == "database" and "somebody else's server, takes connections" in one["says"]] == ["OK"]
    assert not stack.sh("systemctl --user -M senex@ is-active backup-dump.timer || true").startswith("active")


def test_a_deploy_makes_no_dump_and_says_so(stack, env, moved):
    play = stack.play(playbook="playbooks/deploy.yml", tags="all", inventory=env.inventory, variables={"django_image_tag": "2"}).expect()
    assert versions(stack) == {"2"} and unlocked(stack)
    assert "No dump and no restore point is made" in play.output
    last = records(stack)[-1]
    assert (last["result"], last["backup"], last["restore_point"]) == ("succeeded", "", "") and last["migrations"]


@pytest.mark.parametrize(
    ("playbook", "variables", "says"),
    [
        ("rotate", {"secret": "database_password", "rotate_confirm": True}, "database_password cannot be rotated here"),
        ("restore", {"restore_dump": "newest"}, "the database is a server of somebody else"),
        ("restore", {"restore_from": "pitr"}, "the database is a server of somebody else"),
        ("upgrade_postgresql", {}, "the group postgresql has no host"),
        ("checksums", {}, "the group postgresql has no host"),
    ],
)
def test_what_is_theirs_to_do_is_refused(stack, env, moved, playbook, variables, says):
    play = stack.play(playbook=f"playbooks/{playbook}.yml", tags="all", inventory=env.inventory, variables={"vault_place_is_kept": True, **variables})
    assert play.code != 0 and says in "\n".join(play.errors), play.errors
    assert unlocked(stack)


def test_a_certificate_of_another_authority_is_refused(stack, moved):
    """With the environment's own alone in the file, theirs is nobody's."""
    script = (
        "import os, re, psycopg; text = open('/run/senex/ca.crt').read(); "
        "open('/tmp/own.crt', 'w').write(re.findall('-----BEGIN.*?END CERTIFICATE-----', text, re.DOTALL)[0]); "
        "psycopg.connect(os.environ['DATABASE_URL'].replace('/run/senex/ca.crt', '/tmp/own.crt'))"
    )
    done = stack.ssh(f"{AS_USER} podman exec web-1 python -c {shlex.quote(script)}")
    assert done.returncode != 0 and "certificate verify failed" in done.stderr

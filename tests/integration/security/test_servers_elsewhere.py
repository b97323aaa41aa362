"""PostgreSQL and Redis of somebody else's: servers beside the host, that the collection knows nothing of, with certificates of other authorities."""

import json
import os
import re
import secrets
import shlex
import subprocess

import pytest
import yaml
from libraries import WORK
from releases import SETTINGS, records, unlocked, versions
from rotations import Environment, manage
from stack import AS_USER, LAB, wait

pytestmark = pytest.mark.faults

PREFIX = os.environ.get("SENEX_LAB_PREFIX") or "10.203.0"
ADDRESSES = {"postgres": f"{PREFIX}.40", "redis": f"{PREFIX}.41"}
NAMES = {kind: f"theirs-{kind}" for kind in ADDRESSES}
CERTIFICATE = """
set -eu
mkdir -p /theirs; cd /theirs
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=their authority' -keyout ca.key -out ca.crt 2>/dev/null
openssl req -newkey rsa:2048 -nodes -subj '/CN=theirs' -keyout server.key -out server.csr 2>/dev/null
printf 'subjectAltName=IP:%s\\n' "$ADDRESS" > san
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.crt 2>/dev/null
"""
# Before its first start. Its role owns its database and is no superuser, and comes in by TLS alone
POSTGRESQL = """
chmod 0600 server.key; chown postgres server.key server.crt
cat > /docker-entrypoint-initdb.d/theirs.sh <<'END'
printf "ssl = on\\nssl_key_file = '/theirs/server.key'\\nssl_cert_file = '/theirs/server.crt'\\n" >> "$PGDATA/postgresql.conf"
printf "local all all trust\\nhostssl all all all scram-sha-256\\n" > "$PGDATA/pg_hba.conf"
psql -v ON_ERROR_STOP=1 -U postgres -c "create role shop login password '$THEIRS'" -c "create database shop owner shop"
END
exec docker-entrypoint.sh postgres
"""
# As providers give it: by TLS alone, with a user of a name, and without what administers the server
REDIS = """
printf 'user default off\nuser shop on >%s ~* &* +@all -@admin\n' "$THEIRS" >users
exec redis-server --port 0 --tls-port 6379 --tls-cert-file server.crt --tls-key-file server.key --tls-ca-cert-file ca.crt --tls-auth-clients no \
    --aclfile /theirs/users --maxmemory-policy noeviction --save ''
"""
# In a container of the application: how each of the four is reached
REDIS_AS_TOLD = """
import os, redis
for name in ("REDIS_URL", "CHANNELS_REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
    server = redis.from_url(os.environ[name])
    link = server.connection_pool.make_connection()
    print(type(link).__name__, link.cert_reqs.name, link.check_hostname, server.acl_whoami(), link.db)
"""
OWN_ALONE = """
import os, re
text = open("/run/senex/ca.crt").read()
open("/tmp/own.crt", "w").write(re.findall("-----BEGIN.*?END CERTIFICATE-----", text, re.DOTALL)[0])
def told(name):
    return os.environ[name].replace("/run/senex/ca.crt", "/tmp/own.crt")
"""


def lab(*words):
    done = subprocess.run([LAB, "run", "--", "podman", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def asked(query):
    """What their PostgreSQL answers at its socket."""
    return lab("exec", NAMES["postgres"], "psql", "-XqAt", "-U", "shop", "-d", "shop", "-c", query).strip()


def asked_redis(*words):
    """What their Redis answers, over TLS."""
    login = 'REDISCLI_AUTH="$THEIRS" exec redis-cli --tls --cacert /theirs/ca.crt -h "$ADDRESS" --user shop "$@"'
    return lab("exec", NAMES["redis"], "sh", "-c", login, "sh", *words).strip()


def begun(kind, begin, words):
    """One of their servers, in a network that the host reaches: address, password and authority."""
    name, image, password = NAMES[kind], f"localhost/senex-lab/{kind}:latest", secrets.token_urlsafe(12) + "@:/?#%"
    subprocess.run([LAB, "run", "--", "podman", "rm", "--force", "--time=0", name], capture_output=True, check=False)
    lab("run", "--detach", f"--name={name}", "--network=senex-lab", f"--ip={ADDRESSES[kind]}", f"--env=THEIRS={password}", f"--env=ADDRESS={ADDRESSES[kind]}",
        "--env=POSTGRES_PASSWORD=x", "--privileged", "--user=root", "--entrypoint=bash", image, "-c", CERTIFICATE + begin)  # fmt: skip
    wait(words, 60, f"their {kind}")
    return {"host": ADDRESSES[kind], "password": password, "ca": lab("exec", name, "cat", "/theirs/ca.crt")}


@pytest.fixture(scope="module")
def theirs():
    """Their servers, each with an authority of its own."""
    try:
        yield {
            "postgres": begun("postgres", POSTGRESQL, lambda: asked("select 1") == "1"),
            "redis": begun("redis", REDIS, lambda: asked_redis("ping") == "PONG"),
        }
    finally:
        for name in NAMES.values():
            lab("rm", "--force", "--ignore", "--time=0", "--volumes", name)


@pytest.fixture(scope="module")
def env(stack, theirs, tmp_path_factory):
    """The environment without a host in the groups postgresql and redis."""
    database, redis = theirs["postgres"], theirs["redis"]
    inputs = {
        **SETTINGS,
        "senex_database_host": database["host"], "senex_database_name": "shop", "senex_database_user": "shop",
        "senex_database_password": database["password"], "senex_database_ca_certificate": database["ca"],
        "senex_extra_environment": {"DATABASE_URL": "{{ senex_database_url }}"},
        "senex_redis_host": redis["host"], "senex_redis_user": "shop", "senex_redis_password": redis["password"],
        "senex_redis_tls": True, "senex_redis_ca_certificate": redis["ca"],
    }  # fmt: skip
    made = Environment(tmp_path_factory.mktemp("environment"), inputs)
    hosts = made.inventory / "hosts.yml"
    known = yaml.safe_load(hosts.read_text())
    emptied(known)
    hosts.write_text(yaml.safe_dump(known))
    return made


def emptied(groups):
    """Without the hosts of these groups, wherever they are nested."""
    for name, group in (groups or {}).items():
        if name in ("postgresql", "redis"):
            groups[name] = {"hosts": {}}
        elif isinstance(group, dict):
            emptied(group)


@pytest.fixture(scope="module")
def moved(stack, env):
    """The application on their servers, while those of the host's own run on; and back."""
    play = stack.play(inventory=env.inventory).expect()
    stack.ready(180)
    yield play
    stack.play(variables=SETTINGS).expect()
    stack.ready(180)


def test_the_application_is_served_by_their_database_with_its_certificate_verified(stack, moved):
    script = (
        "import os, psycopg; c = psycopg.connect(os.environ['DATABASE_URL']); "
        "print(c.execute('select current_user').fetchone()[0], c.info.dsn, c.execute('select count(*) from django_migrations').fetchone()[0] > 0)"
    )
    said = stack.user("podman", "exec", "web-1", "python", "-c", script)
    assert said.startswith("shop ") and "sslmode=verify-full" in said and said.strip().endswith("True")
    stack.post("/api/rows/", {"text": "on their server"})
    assert int(asked("select count(*) from probe_row")) > 0
    stack.task_runs()


def test_the_libraries_reach_their_redis_with_its_certificate_verified(stack, moved):
    said = stack.user("podman", "exec", "web-1", "python", "-c", REDIS_AS_TOLD).splitlines()
    assert said == [f"SSLConnection CERT_REQUIRED True shop {number}" for number in range(4)]
    assert manage(stack, WORK).splitlines()[-1] == "worked"
    stack.task_runs()
    assert {"db2", "db3"} <= set(re.findall(r"^db\d+", asked_redis("info", "keyspace"), re.MULTILINE)), "queue and results are elsewhere"


def test_a_second_run_changes_nothing(stack, env, moved):
    play = stack.play(inventory=env.inventory).expect()
    assert play.changed == [] and play.restarts() == []


def test_preflight_and_status_say_whose_they_are(stack, env, theirs, moved):
    said = stack.play(playbook="playbooks/preflight.yml", tags="all", inventory=env.inventory, variables={"preflight_json": True}).output
    assert f"database {theirs['postgres']['host']}:5432" in said and f"redis {theirs['redis']['host']}:6379" in said
    assert "takes connections; backups, restores, upgrades and rotation of its password are the provider's" in said
    assert "takes connections; copies of it are the provider's" in said
    found = json.loads(stack.sh("senex status --json || true"))["findings"]
    for what in ("database", "redis"):
        assert [one["level"] for one in found if one["key"] == what and "somebody else's server, takes connections" in one["says"]] == ["OK"]
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
        ("rotate", {"secret": "redis_password", "rotate_confirm": True}, "redis_password cannot be rotated here"),
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


@pytest.mark.parametrize("opens", ["import psycopg; psycopg.connect(told('DATABASE_URL'))", "import redis; redis.from_url(told('CELERY_BROKER_URL')).ping()"])
def test_a_certificate_of_another_authority_is_refused(stack, moved, opens):
    """With the environment's own alone in the file, theirs are nobody's."""
    done = stack.ssh(f"{AS_USER} podman exec web-1 python -c {shlex.quote(OWN_ALONE + opens)}")
    assert done.returncode != 0 and "certificate verify failed" in done.stderr

"""What a person may get wrong: one message that names the variable, and a host on which nothing has changed."""

import contextlib
import datetime
import shlex

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from stack import DOMAIN, HOME

TIMEOUT = 120


@pytest.fixture(scope="module")
def state(stack):
    """What there is before and after: files, and when each unit last started."""
    known = {}

    def look():
        return {"files": stack.files(), "starts": stack.starts()}

    def unchanged(*but):
        now, before = look(), known["now"]
        known["now"] = now
        assert {path for path in before["files"].keys() | now["files"].keys() if before["files"].get(path) != now["files"].get(path)} == set()
        assert [unit for unit in now["starts"] if now["starts"][unit] != before["starts"][unit] and unit not in but] == []

    known["now"] = look()
    return unchanged


def refused(stack, state, words, *options, tags="phase1", but=(), variables=None, timeout=TIMEOUT):
    """The run ends with one error that holds all of `words`, and nothing has changed."""
    play = stack.play(*options, tags=tags, variables=variables, timeout=timeout)
    assert play.code != 0, f"accepted; plan {play.plan}"
    errors = set(play.errors)
    assert len(errors) == 1, f"{len(errors)} messages: {errors or play.output[-2000:]}"
    (message,) = errors
    missing = [word for word in words if word not in message]
    assert not missing, f"the message does not say {missing}: {message}"
    assert "Traceback" not in message
    state(*but)
    return message


# name: (tags, variables, what the message says)
INPUTS = {
    "a secret that is missing": ("phase1", {"senex_database_password": ""}, ["senex_database_password", "missing", "playbooks/secrets.yml"]),
    "a placeholder": ("phase1", {"senex_redis_password": "CHANGE_ME-CHANGE_ME"}, ["senex_redis_password", "placeholder"]),
    "a secret that is too short": ("phase1", {"senex_redis_password": "pw-of-8c"}, ["senex_redis_password", "12 characters"]),
    "a password of two lines": ("phase1", {"senex_database_password": "first line\nsecond line"}, ["senex_database_password", "line break"]),
    "a domain that is none": ("phase1", {"senex_domain": "https://demo senex"}, ["senex_domain", "www.example.com"]),
    "the tag latest": ("phase1", {"senex_image_tag": "latest"}, ["senex_image_tag", "latest", "digest"]),
    "too little memory": ("phase1", {"senex_memory_mb": 1000}, ["senex_memory_mb", "1000", "2 GB"]),
    "limits above the memory": ("phase1", {"senex_memory_overrides": {"postgresql": 999999}}, ["senex_memory_overrides", "postgresql 999999", "add up to"]),
    "too little disk": ("common", {"common_min_disk_mb": 99999999}, ["common_min_disk_mb", "99999999", HOME]),
    "a time zone that is none": ("common", {"senex_timezone": "Mars/Phobos"}, ["senex_timezone", "Europe/Berlin"]),
    "an unknown TLS mode": ("nginx", {"nginx_tls_mode": "letsencript"}, ["nginx_tls_mode", "letsencrypt", "ownca", "provided"]),
    "a rate that is none": ("nginx", {"nginx_login_rate": "5 per minute"}, ["nginx_login_rate", "r/s"]),
    "eviction of queued tasks": ("redis", {"redis_maxmemory_policy": "allkeys-lru"}, ["redis_maxmemory_policy", "queued", "volatile-lru"]),
    "an unknown PostgreSQL": ("postgresql", {"postgresql_version": 12}, ["postgresql_version", "12", "15, 16, 17"]),
    "another major on old data": ("postgresql", {"postgresql_version": 16}, ["postgresql_version", "15", "upgrade_postgresql.yml"]),
    "a queue that nobody takes from": (
        "celery", {"celery_workers": [{"name": "celery-worker", "queues": ["celery"], "concurrency": 1}]}, ["celery_workers", "accounts", "trading"],
    ),  # fmt: skip
    "no web instance": ("django", {"senex_web_instances": 0}, ["senex_web_instances", "1 to 32"]),
    "an environment value of two lines": ("django", {"senex_extra_environment": {"MOTD": "a\nb"}}, ["MOTD", "line"]),
    "an image that does not exist": ("django", {"senex_image_tag": "no-such-release"}, ["senex_image_tag", "demo:no-such-release", "nothing was changed"]),
    "a wrong registry login": ("podman", {"senex_registry_login": {"username": "lab", "password": "wrong-wrong"}}, ["senex_registry_login", "lab"]),
}


@pytest.mark.parametrize("name", INPUTS)
def test_refused(stack, state, name):
    tags, variables, words = INPUTS[name]
    message = refused(stack, state, words, tags=tags, variables=variables)
    for value in variables.values():
        assert "password" not in " ".join(variables) or str(value) not in message or not value, "a secret is in the message"


def test_a_mistake_in_the_last_part_stops_before_the_first(stack, state):
    """On a bare host the parts before it would be there already."""
    play = stack.play(variables={"nginx_tls_mode": "letsencript", "celery_beat_max_silence": 1}, timeout=TIMEOUT)
    assert play.code != 0 and "celery_beat_max_silence" in play.errors[0]
    reached = {name.split(" : ")[0] for name, _ in play.results if " : " in name}
    assert reached and "senex.trader.common" not in reached, f"the first part was reached: {reached}"
    state()


def test_two_schedulers(stack, state, tmp_path):
    second = tmp_path / "second.yml"
    second.write_text("all: {children: {celery_beat: {hosts: {second: {ansible_host: 10.203.0.249}}}}}\n")
    refused(stack, state, ["celery_beat", "exactly one", "demo", "second"], "-i", str(second))


def test_a_wrong_vault_password(stack, state, tmp_path, monkeypatch):
    password = tmp_path / "password"
    password.write_text("not the password\n")
    monkeypatch.setenv("ANSIBLE_VAULT_IDENTITY_LIST", f"demo@{password}")
    play = stack.play(timeout=TIMEOUT)
    assert play.code != 0 and "Decryption failed" in play.output
    state()


@contextlib.contextmanager
def on_host(stack, do, undo):
    stack.sh(do)
    try:
        yield
    finally:
        stack.sh(undo)


def test_an_unsupported_system(stack, state):
    do = "sed -e 's/^VERSION_ID=.*/VERSION_ID=\"11\"/' /usr/lib/os-release >/run/os-release.test && mount --bind /run/os-release.test /usr/lib/os-release"
    debian = "echo 11.9 >/run/debian_version.test && mount --bind /run/debian_version.test /etc/debian_version"
    with on_host(stack, f"{do} && {debian}", "umount /usr/lib/os-release /etc/debian_version; rm -f /run/*.test"):
        play = stack.play(tags="common", timeout=TIMEOUT)
    assert play.code != 0 and len(play.errors) == 1
    assert "Debian 11" in play.errors[0] and "Debian 13" in play.errors[0] and "Ubuntu 24.04" in play.errors[0]
    state()


def test_a_port_that_something_else_has(stack, state):
    script = "import socket, time; s = socket.create_server((\"127.0.0.1\", 8003)); time.sleep(100)"
    listen = f"systemd-run --quiet --unit=test-port --collect python3 -c {shlex.quote(script)}; sleep 1"
    with on_host(stack, listen, "systemctl stop test-port.service"):
        refused(stack, state, ["senex_web_base_port", "8003", "python3"], tags="common", variables={"senex_web_instances": 3})


def pair(directory, days=30, name=DOMAIN):
    """A certificate and its key, in files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(end - datetime.timedelta(days=90)).not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False).sign(key, hashes.SHA256())
    )  # fmt: skip
    directory.mkdir()
    (directory / "crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    (directory / "key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return {"nginx_tls_mode": "provided", "nginx_tls_certificate": str(directory / "crt"), "nginx_tls_private_key": str(directory / "key")}


@pytest.mark.parametrize("fault", ["unreadable", "mismatched", "expired", "of another name"])
def test_a_provided_certificate(stack, state, tmp_path, fault):
    good = pair(tmp_path / "good")
    variables, words = {
        "unreadable": ({**good, "nginx_tls_certificate": "/nowhere/x.crt"}, ["nginx_tls_certificate", "/nowhere/x.crt", "controller"]),
        "mismatched": ({**pair(tmp_path / "other"), "nginx_tls_private_key": good["nginx_tls_private_key"]}, ["nginx_tls_private_key", "belong"]),
        "expired": (pair(tmp_path / "old", days=-1), ["nginx_tls_certificate", "expired"]),
        "of another name": (pair(tmp_path / "name", name="x.test"), ["nginx_tls_certificate", "x.test", DOMAIN]),
    }[fault]
    refused(stack, state, words, tags="nginx", variables=variables)


def test_a_file_that_nginx_refuses(stack, state):
    """An operator's own snippet is broken and a setting changes: the old configuration goes on."""
    snippet = "/etc/nginx/senex/site.d/broken.conf"
    with on_host(stack, f"echo 'no_such_directive on;' >{snippet}", f"rm {snippet}"):
        play = stack.play(tags="nginx", variables={"nginx_client_max_body_size": "11m"}, timeout=TIMEOUT)
    assert play.code != 0 and len(play.errors) == 1
    assert "nginx -t" in play.errors[0] and "no_such_directive" in play.errors[0] and "files from before are back" in play.errors[0]
    state()


def test_a_setting_that_postgresql_refuses(stack, state):
    """It cannot be known before PostgreSQL has tried: it is put back, and runs."""
    words = ["postgres.service did not come up", "no_such_setting", "files from before are back", "running again: postgres.service"]
    refused(stack, state, words, tags="postgresql", variables={"postgresql_settings": {"no_such_setting": "1"}}, but=("postgres",), timeout=300)
    stack.ready(60)

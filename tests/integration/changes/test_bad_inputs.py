"""What a person may get wrong: one message that names the variable, and a host on which nothing has changed."""

import contextlib
import shlex
import sys

import pytest
from stack import DOMAIN, ROOT

sys.path.insert(0, str(ROOT / "tests" / "unit"))

from provided import pair  # noqa: E402  (the path above must come first)

TIMEOUT = 300


@pytest.fixture(scope="module")
def state(stack):
    """What there is before and after: files, and when each unit last started."""
    known = {}

    def look():
        return {"files": stack.files(), "starts": stack.starts()}

    def unchanged():
        now, before = look(), known["now"]
        known["now"] = now
        assert {path for path in before["files"].keys() | now["files"].keys() if before["files"].get(path) != now["files"].get(path)} == set()
        assert [unit for unit in now["starts"] if now["starts"][unit] != before["starts"][unit]] == []

    known["now"] = look()
    return unchanged


def refused(stack, state, words, *options, tags="phase1", variables=None):
    """The run ends with one error that holds all of `words`, and nothing has changed."""
    play = stack.play(*options, tags=tags, variables=variables, timeout=TIMEOUT)
    assert play.code != 0, f"accepted; plan {play.plan}"
    errors = set(play.errors)
    assert len(errors) == 1, f"{len(errors)} messages: {errors or play.output[-2000:]}"
    (message,) = errors
    missing = [word for word in words if word not in message]
    assert not missing, f"the message does not say {missing}: {message}"
    assert "Traceback" not in message
    state()
    return message


# name: (tags, variables, what the message says). What else a part refuses is in tests/unit/test_input_checks.py and in the scenario of its role
INPUTS = {
    "the inventory": (
        "phase1",
        {"senex_database_password": "", "senex_redis_password": "CHANGE_ME-CHANGE_ME", "senex_domain": "https://demo senex", "senex_image_tag": "latest"},
        ["senex_database_password", "missing", "playbooks/secrets.yml", "senex_redis_password", "placeholder", "senex_domain", "www.example.com",
         "senex_image_tag", "latest", "digest"],
    ),
    "its secrets": (
        "phase1",
        {"senex_redis_password": "pw-of-8c", "senex_database_password": "first line\nsecond line"},
        ["senex_redis_password", "12 characters", "senex_database_password", "line break"],
    ),
    "limits above the memory": ("phase1", {"senex_memory_overrides": {"postgresql": 999999}}, ["senex_memory_overrides", "postgresql 999999", "add up to"]),
    "an unknown TLS mode": ("nginx", {"nginx_tls_mode": "letsencript"}, ["nginx_tls_mode", "letsencrypt", "ownca", "provided"]),
    "a wrong registry login": ("podman", {"senex_registry_login": {"username": "lab", "password": "wrong-wrong"}}, ["senex_registry_login", "lab"]),
}  # fmt: skip


# Tried in a preflight and in a release too
LATER = {"a wrong registry login"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.faults] * (name in LATER)) for name in INPUTS])
def test_refused(stack, state, name):
    tags, variables, words = INPUTS[name]
    message = refused(stack, state, words, tags=tags, variables=variables)
    secrets = [value for key, value in variables.items() if "password" in key and value]
    assert [value for value in secrets if value in message] == [], "a secret is in the message"


def test_a_mistake_in_the_last_part_stops_before_the_first(stack, state):
    """On a bare host the parts before it would be there already."""
    play = stack.play(variables={"celery_beat_max_silence": 1}, timeout=TIMEOUT)
    assert play.code != 0 and "celery_beat_max_silence" in play.errors[0]
    reached = {name.split(" : ")[0] for name, _ in play.results if " : " in name}
    assert reached and "senex.trader.common" not in reached, f"the first part was reached: {reached}"
    state()


@pytest.mark.faults
def test_a_word_that_an_input_does_not_know_is_refused_before_any_role(stack, state):
    refused(stack, state, ["nginx_tls_mode", "must be one of: letsencrypt, ownca, provided, upstream"], variables={"nginx_tls_mode": "letsencript"})


def test_an_older_version_of_the_collection(stack, state):
    mark = "/var/lib/senex.trader/collection"
    stack.sh(f"mv {mark} {mark}.own; echo 99.0.0 >{mark}")
    try:
        play = stack.play(variables={"postgresql_settings": {"work_mem": "7MB"}}, timeout=TIMEOUT)
        assert stack.sh(f"cat {mark}") == "99.0.0\n"
    finally:
        stack.sh(f"mv {mark}.own {mark}")
    assert play.code != 0 and play.stats["changed"] == 0 and len(set(play.errors)) == 1
    assert "version 99.0.0 of the collection" in play.errors[0] and play.errors[0].endswith("Nothing was changed.")
    state()


def test_two_schedulers(stack, state, tmp_path):
    second = tmp_path / "second.yml"
    second.write_text("all: {children: {celery_beat: {hosts: {second: {ansible_host: 10.203.0.249}}}}}\n")
    refused(stack, state, ["celery_beat", "one host", "demo", "second"], "-i", str(second))


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


def test_a_host_that_does_not_fit(stack, state):
    """An unsupported system, and a port that something else has: both are told at once."""
    do = "sed -e 's/^VERSION_ID=.*/VERSION_ID=\"11\"/' /usr/lib/os-release >/run/os-release.test && mount --bind /run/os-release.test /usr/lib/os-release"
    debian = "echo 11.9 >/run/debian_version.test && mount --bind /run/debian_version.test /etc/debian_version"
    system = on_host(stack, f"{do} && {debian}", "umount /usr/lib/os-release /etc/debian_version; rm -f /run/*.test")
    script = 'import socket, time; s = socket.create_server(("127.0.0.1", 8003)); time.sleep(100)'
    listen = f"systemd-run --quiet --unit=test-port --collect python3 -c {shlex.quote(script)}; until ss -Hltn | grep -q :8003; do sleep 0.1; done"
    words = ["Debian 11", "Debian 13", "Ubuntu 24.04", "senex_web_base_port", "8003", "python3"]
    with system, on_host(stack, listen, "systemctl stop test-port.service"):
        play = stack.play(tags="common", variables={"senex_web_instances": 3}, timeout=TIMEOUT)
    assert play.code != 0 and len(play.errors) == 1
    assert [word for word in words if word not in play.errors[0]] == [], play.errors
    state()


def test_a_pair_that_is_none(stack, state, tmp_path):
    """And a rate that is none, in the same message."""
    variables = {**pair(tmp_path / "one", DOMAIN), "nginx_login_rate": "5 per minute"}
    variables["nginx_tls_private_key"] = pair(tmp_path / "other", DOMAIN)["nginx_tls_private_key"]
    refused(stack, state, ["nginx_tls_private_key", "belong", "nginx_login_rate", "r/s"], tags="nginx", variables=variables)


def test_a_file_that_nginx_refuses(stack, state):
    """An operator's own snippet is broken and a setting changes: the old configuration goes on."""
    snippet = "/etc/nginx/senex/site.d/broken.conf"
    with on_host(stack, f"echo 'no_such_directive on;' >{snippet}", f"rm {snippet}"):
        play = stack.play(tags="nginx", variables={"nginx_client_max_body_size": "11m"}, timeout=TIMEOUT)
    assert play.code != 0 and len(play.errors) == 1
    assert "nginx -t" in play.errors[0] and "no_such_directive" in play.errors[0] and "files from before are back" in play.errors[0]
    state()

"""A controller that slept through the end of its lock, while another one took its rotation over: it leaves the vault alone, which no lock of a host guards.

Real runs of rotate.yml, on hosts whose roles change nothing, and whose locks keep nobody away."""

import json
import os
import signal
import subprocess
import time

import pytest
from controller import ONE, ROOT, Stubbed, surroundings

SECRETS = {"vault_secret_key": "k" * 50, "vault_database_password": "of the database", "vault_redis_password": "of redis"}
VAULT = "Write the stage into the vault"
CALLBACK = ROOT / "tests/integration/interrupted/callback"


@pytest.fixture
def site(tmp_path):
    return Stubbed(tmp_path, ONE, SECRETS)


def asleep(site, secret):
    """A rotation that is stopped with its lock, before it writes the vault."""
    mark = site.home / "mark"
    moment = {
        "play": VAULT,
        "host": "localhost",
        "task": "Check that nobody else has changed the vault|Compute the new content of the vault",
        "signal": int(signal.SIGSTOP),
        "mark": str(mark),
    }
    plugins = ":".join([str(CALLBACK), *filter(None, [surroundings().get("ANSIBLE_CALLBACK_PLUGINS")])])
    more = {"ANSIBLE_CALLBACK_PLUGINS": plugins, "ANSIBLE_CALLBACKS_ENABLED": "senex_moment", "SENEX_MOMENT": json.dumps(moment)}
    words, environment = site.command("rotate.yml", *site.rotation(secret), **more)
    run = subprocess.Popen([str(word) for word in words], cwd=site.home, env=surroundings(**environment), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)  # fmt: skip
    end = time.monotonic() + 120
    while not mark.exists():
        assert run.poll() is None and time.monotonic() < end, run.communicate()[0]
        time.sleep(0.05)
    return run


@pytest.mark.parametrize("secret", ["database_password", pytest.param("redis_password", marks=pytest.mark.faults)], ids=["the same", "another"])
def test_whoever_wakes_up_leaves_the_vault_alone(site, secret):
    """It began a rotation of its own, with a value that no host was told of."""
    run = asleep(site, "database_password")
    try:
        done = site.rotate(secret)
        assert done.returncode == 0, site.said
        held, visits = site.secrets(), site.visits()
    finally:
        os.killpg(run.pid, signal.SIGCONT)
    said = run.communicate(timeout=120)[0]
    assert run.returncode != 0 and "it was changed by somebody else meanwhile" in " ".join(said.split()), said
    assert site.secrets() == held and "vault_rotation" not in held
    assert site.visits() == visits, "and no host is visited any more"

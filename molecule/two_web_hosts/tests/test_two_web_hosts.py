"""Releases one host after the other, under requests and WebSockets. The order matters: each test begins with what the one before left."""

import subprocess
import time

import pytest
from conftest import Observed
from parts import HOME, RUN
from releases import RECORDS

# Takes port 8002 as soon as its instance stops, and gives it back when the unit of the release before is there again
THIEF = """
import socket, time
unit, end = "{home}/.config/containers/systemd/web-2.container", time.time() + 200
while time.time() < end:
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(("{address}", 8002))
        taken.listen()
    except OSError:
        taken.close()
        time.sleep(0.002)
        continue
    while "demo:2" in open(unit).read() and time.time() < end:
        time.sleep(0.05)
    taken.close()
    break
"""


# An operator's own tasks
HOOK = """- name: Write down that it was here
  ansible.builtin.shell: echo "NAME {{ release_kind }} {{ release_tag }} {{ release_result | default('') }}" >>/root/hooks
  changed_when: true
"""


@pytest.fixture
def hooks(site, tmp_path):
    """Variables of a release that has such tasks; what they wrote is read with `cat`."""
    words = {}
    for name in ("pre_deploy", "post_deploy", "post_failure"):
        path = tmp_path / f"{name}.yml"
        path.write_text(HOOK.replace("NAME", name))
        words[f"release_{name}_tasks"] = str(path)
    for host in site.hosts:
        host.sh("rm -f /root/hooks")
    return words


def written(host):
    return [line.strip() for line in host.sh("cat /root/hooks 2>/dev/null || true").splitlines()]


def test_parts_are_reached_at_private_addresses_alone(site):
    listens = site.one.sh("ss -Hltn | awk '{print $4}'").split()
    for port in (5432, 6390):
        assert [found for found in listens if found.endswith(f":{port}")] == [f"{site.one.address}:{port}"]
    assert not [found for found in listens if found.endswith(":6379")], "Redis is reached by TLS alone"
    assert "127.0.0.1:8001" in listens
    others = site.two.sh("ss -Hltn | awk '{print $4}'").split()
    assert {f"{site.two.address}:8001", f"{site.two.address}:8002"} == {found for found in others if found.rpartition(":")[2].startswith("800")}
    encrypted = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid) where ssl and client_addr is not null"
    assert site.one.sh(f"{RUN} podman exec postgres psql -XqAt -U senex -d senex -c '{encrypted}'").strip() != "0"


def test_a_release_goes_host_by_host_and_nobody_notices(site, hooks):
    with Observed(site) as seen:
        done = site.deploy("2", **hooks)
    assert done.rc == 0, done.output
    seen.expect_nobody_noticed()
    assert seen.out(site.one) and seen.out(site.two), "each left the rotation while it was replaced"
    assert site.versions() == [{"2"}, {"2"}]
    assert site.unlocked()
    for host in site.hosts:
        last = site.records(host)[-1]
        assert (last["tag"], last["result"], last["failed"]) == ("2", "succeeded", 0)
    assert written(site.one) == ["pre_deploy deploy 2", "post_deploy deploy 2 succeeded"] and written(site.two) == [], "once a release"


def test_the_same_again_changes_nothing(site):
    before = [site.records(host) for host in site.hosts]
    done = site.deploy("2")
    assert done.rc == 0, done.output
    assert "runs already everywhere" in done.message
    assert [site.records(host) for host in site.hosts] == before
    assert site.unlocked()


def test_a_host_without_a_record_keeps_the_release_of_the_others(site):
    """As one that was added later: the inventory still names release 1. It stays without the record, for the way back needs none of it either."""
    site.one.sh(f"mv {RECORDS} {RECORDS}.kept")
    done = site.play("site", "--tags", "django", "--check", "--limit", site.one.name)
    assert (done.rc, done.changed) == (0, 0), done.output


def test_back_to_the_release_before(site):
    with Observed(site) as seen:
        done = site.play("rollback", release_undo_migrations=True)
    assert done.rc == 0, done.output
    seen.expect_nobody_noticed()
    assert site.versions() == [{"1"}, {"1"}]
    assert site.unlocked()
    assert [site.records(host)[-1]["result"] for host in site.hosts] == ["succeeded", "succeeded"]


@pytest.fixture
def archive(site, tmp_path):
    """Release 2 as a file, and on no host."""
    subprocess.run(["podman", "save", "--quiet", "--output", tmp_path / "demo.tar", "localhost/senex-lab/demo:2"], check=True, timeout=120)
    for host in site.hosts:
        host.sh(f"{RUN} sh -c \"podman images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' | grep /demo:2 | xargs -r podman rmi --force\"")
    return tmp_path / "demo.tar"


@pytest.mark.faults
def test_what_fails_on_the_second_host_is_taken_back_on_both(site, archive, hooks):
    """The second host's second instance finds its port taken; by then the first host and one instance here are on the new release, which no
    registry gave them."""
    site.two.sh(f"cat >/root/thief.py <<'END'\n{THIEF.format(home=HOME, address=site.two.address)}\nEND\n(setsid python3 /root/thief.py >/dev/null 2>&1 &)")
    with Observed(site) as seen:
        done = site.deploy("2", senex_image_from=str(archive), release_hooks_on="all", **hooks)
    assert done.rc != 0
    assert {f"{host.name}: copying" in done.message for host in site.hosts} == {True}, done.output
    assert "web-2.service did not come up" in done.message and "molecule-web-two, web" in done.message, done.output
    assert "serves, as before. The lock is released" in done.message
    seen.expect_nobody_noticed()
    assert seen.out(site.one) and seen.out(site.two)
    assert site.versions() == [{"1"}, {"1"}]
    assert site.unlocked()
    assert [site.records(host)[-1]["result"] for host in site.hosts] == ["switched back", "switched back"]
    assert [written(host) for host in site.hosts] == [["pre_deploy deploy 2", "post_failure deploy 2 switched back"]] * 2


@pytest.mark.faults
def test_a_changed_environment_value_goes_host_by_host_too(site):
    value = f"two-{time.time():.0f}"
    with Observed(site) as seen:
        done = site.play("site", "--tags", "django", senex_extra_environment={"CANARY": value})
    assert done.rc == 0, done.output
    seen.expect_nobody_noticed()
    assert [host.says("canary") for host in site.hosts] == [{value}, {value}]

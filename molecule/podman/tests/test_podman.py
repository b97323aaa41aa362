"""Rootless Podman as the podman role leaves it; a container made of one static program stands for the stack."""

import base64
import json
import os
import pathlib
import subprocess
import time

import pytest

HOME = "/opt/senex-trader"
RUN = f"cd {HOME} && runuser -u senex -- env HOME={HOME} XDG_RUNTIME_DIR=/run/user/987 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/987/bus"
UNIT = """[Container]
Image=localhost/probe:3
ContainerName=probe
Network=senex-network.network
PublishPort=127.0.0.1:8099:8080

[Service]
Restart=always
RestartSec=1

[Install]
WantedBy=default.target
"""


def eventually(host, command, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = host.run(command)
        if result.rc == 0:
            return result
        time.sleep(0.5)
    pytest.fail(f"{command}\n{result.stdout}{result.stderr}\n" + host.check_output("journalctl -n 40 --no-pager"))


def show(host, unit, name):
    return host.check_output(f"systemctl --user --machine=senex@ show --property={name} --value {unit}")


@pytest.fixture(scope="module")
def images(host):
    for release in (1, 2, 3):
        host.check_output(f"{RUN} podman build --quiet --no-cache --build-arg release={release} --tag localhost/probe:{release} /opt/probe")
        time.sleep(1)


@pytest.fixture(scope="module")
def probe(host, images):
    path = f"{HOME}/.config/containers/systemd/probe.container"
    host.check_output(f"printf '%s' '{UNIT}' >{path} && chown senex: {path}")
    host.check_output("systemctl --user --machine=senex@ daemon-reload && systemctl --user --machine=senex@ start probe.service")
    eventually(host, "curl -s -o /dev/null http://127.0.0.1:8099/", 20)
    yield
    host.run(f"systemctl --user --machine=senex@ stop probe.service; rm {path}; systemctl --user --machine=senex@ daemon-reload")


def test_user_manager(host):
    assert host.file("/var/lib/systemd/linger/senex").exists
    assert show(host, "default.target", "ActiveState") == "active"
    assert host.run("systemctl is-active network-online.target").rc == 0


def test_rootless_container_runs(host, probe):
    info = json.loads(host.check_output(f"{RUN} podman info --format json"))
    assert info["host"]["security"]["rootless"]
    assert info["store"]["graphDriverName"] == "overlay"
    pid = host.check_output(f"{RUN} podman inspect probe --format '{{{{.State.Pid}}}}'")
    assert int(host.check_output(f"stat -c %u /proc/{pid}")) == 200999


def test_containers_find_each_other(host, probe):
    networks = json.loads(host.check_output(f"{RUN} podman inspect probe"))[0]["NetworkSettings"]["Networks"]
    assert list(networks) == ["senex-trader_senex_network"]
    fetch = "localhost/probe:3 /bin/busybox wget -q -O- http://probe:8080/"
    answer = host.run(f"{RUN} podman run --rm --network senex-trader_senex_network {fetch}")
    assert "404" in answer.stderr


def test_what_is_denied_is_out_of_reach_of_containers_alone(host, probe):
    """Both addresses are the host's own, so nothing leaves it."""
    assert "10.203.77.77" in host.check_output("systemctl show --property=IPAddressDeny --value user@987.service")
    addresses = ("10.203.77.77", "10.203.77.78")
    for address in addresses:
        host.check_output(f"ip address replace {address}/32 dev lo")
    host.check_output("systemd-run --quiet --collect --unit=denied-probe python3 -m http.server 18077")
    try:
        eventually(host, "curl -sf -o /dev/null -m 3 http://10.203.77.77:18077/", 20)
        answers = [host.run(f"{RUN} podman exec probe /bin/busybox wget -q -T 5 -O /dev/null http://{address}:18077/") for address in addresses]
        if answers[0].rc == 0 and "firewall" in host.run("journalctl -b --no-pager --grep 'BPF|firewall' _PID=1").stdout:
            pytest.skip("not run: the kernel has no BPF for control groups here")
        places = host.run("for one in $(pgrep -u senex 'pasta|slirp4netns'); do cat /proc/$one/cgroup; done").stdout
        assert (answers[0].rc != 0, answers[1].rc) == (True, 0), f"{answers}\n{places}"
        assert host.run("cd / && runuser -u nobody -- curl -sf -o /dev/null -m 3 http://10.203.77.77:18077/").rc == 0
    finally:
        host.check_output("systemctl stop denied-probe.service; " + "; ".join(f"ip address del {address}/32 dev lo" for address in addresses))


def asked_of_nobody(host):
    """What a container meets that sends a question to the network's gateway, where nobody takes it."""
    pid = host.check_output(f"{RUN} podman inspect probe --format '{{{{.State.Pid}}}}'")
    gateway = host.check_output(f"{RUN} podman network inspect senex-trader_senex_network --format '{{{{(index .Subnets 0).Gateway}}}}'")
    ask = f"import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(1); s.connect(('{gateway}', 9)); s.send(b'?'); s.recv(1)"
    return host.run(f'nsenter --target {pid} --net python3 -c "{ask}"').stderr.splitlines()[-1]


def test_the_bridge_takes_an_address_of_its_own_and_nobody_is_refused(host, probe):
    """What hosts with netavark before 1.9 get is not installed here. It works with this Podman as with that one, which the lab does not have."""
    assert not host.file(f"{HOME}/bin/senex-bridge-address").exists
    program = base64.b64encode((pathlib.Path(__file__).parents[3] / "roles/podman/files/bridge_address.sh").read_bytes()).decode()
    host.check_output(f"echo {program} | base64 -d >/tmp/bridge-address; chmod 644 /tmp/bridge-address")
    links = f"{RUN} podman unshare --rootless-netns ip -o link show type bridge"
    before = host.check_output(links)
    assert before.count("link/ether") == 1 and "02:73:65:6e:65:78" not in before
    assert asked_of_nobody(host).startswith("ConnectionRefusedError"), "glibc asks again at once, until it gives up"
    for _ in range(2):
        host.check_output(f"{RUN} sh /tmp/bridge-address senex-trader_senex_network")
        assert "link/ether 02:73:65:6e:65:78" in host.check_output(links)
        assert asked_of_nobody(host).startswith("TimeoutError"), "it asks again after a second"
    test_containers_find_each_other(host, probe)
    assert "link/ether 02:73:65:6e:65:78" in host.check_output(links)


def test_login_is_there_for_podman_and_for_nobody_else(host):
    path = host.file(f"{HOME}/.config/containers/auth.json")
    assert (path.user, oct(path.mode)) == ("senex", "0o600")
    assert host.check_output(f"{RUN} podman login --get-login registry.senex.test:5000") == "lab"
    assert not host.file("/run/user/987/containers/auth.json").exists
    host.check_output(f"{RUN} podman search --limit 1 registry.senex.test:5000/senex")


def test_killed_user_manager_comes_back_with_its_containers(host, probe):
    """And the login is still there: the default place, below /run/user, is gone when the manager is."""
    main = "systemctl show --property=MainPID --value user@987.service"
    before = host.check_output(main)
    host.check_output(f"kill -9 {before}")
    eventually(host, f"case $({main}) in 0 | {before}) exit 1;; esac; curl -s -o /dev/null http://127.0.0.1:8099/")
    test_containers_find_each_other(host, probe)
    test_login_is_there_for_podman_and_for_nobody_else(host)


def test_prune_keeps_what_a_release_needs(host, probe):
    """Two newest are kept of three; then one in use is kept although it is the oldest."""
    tags = f"{RUN} podman images --format '{{{{.Tag}}}}' --filter reference=localhost/probe"
    assert set(host.check_output(tags).split()) == {"1", "2", "3"}
    host.check_output(f"{RUN} podman create --name old localhost/probe:1")
    prune = "systemctl --user --machine=senex@ start senex-prune-images.service"
    host.check_output(prune)
    assert set(host.check_output(tags).split()) == {"1", "2", "3"}
    host.check_output(f"{RUN} podman rm old")
    host.check_output(prune)
    assert set(host.check_output(tags).split()) == {"2", "3"}


def test_prune_runs_by_a_timer(host):
    assert show(host, "senex-prune-images.timer", "ActiveState") == "active"
    assert show(host, "senex-prune-images.timer", "NextElapseUSecRealtime") != ""


def test_facts_name_podman(host):
    facts = json.loads(host.check_output("/etc/ansible/facts.d/senex.fact"))
    assert facts["podman_version"] == host.check_output("podman --version").split()[-1]
    assert facts["user_manager"]["senex"] == {"state": "active", "bus": True}
    assert facts["linger"] == ["senex"]
    assert host.file(facts["quadlet"]).exists
    assert facts["netavark_version"] == host.check_output("/usr/lib/podman/netavark --version").split()[-1]


def test_what_the_next_start_of_the_host_would_not_bring_is_repaired(host):
    """A timer that is disabled and a network that is masked, which both go on until then."""
    timer, network = "senex-prune-images.timer", "senex-network-network.service"
    host.check_output(f"systemctl --user -M senex@ disable {timer} && systemctl --user -M senex@ mask {network}")
    assert (show(host, timer, "UnitFileState"), show(host, network, "UnitFileState")) == ("disabled", "masked")
    playbook = pathlib.Path(os.environ["MOLECULE_PROJECT_DIRECTORY"], "molecule/shared/converge.yml")
    command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], str(playbook)]
    for changed in (True, False):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "ANSIBLE_NOCOLOR": "1"})
        assert done.returncode == 0 and ("changed=0" not in done.stdout) == changed, done.stdout
        assert (show(host, timer, "UnitFileState"), show(host, network, "UnitFileState")) == ("enabled", "generated")
        assert show(host, network, "ActiveState") == "active"

"""Hosts whose netavark is older than 1.9, as Ubuntu 24.04's is: what is installed there, what units do, and that other hosts have none of it."""

import os
import pathlib
import pwd
import subprocess

import pytest
from ansible_collections.senex.trader.plugins.module_utils.engine import unit_text
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_keys import check_unit
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import ServiceUser
from ansible_collections.senex.trader.plugins.module_utils.release import release_steps
from rendered import ROLES as ALL_ROLES
from rendered import component, loaded, value
from test_host_fact import fact, script  # noqa: F401  (fixtures)
from test_rendered_units import BASE, ROLES, units_of

BRIDGE = pathlib.Path(__file__).parents[2] / "roles/podman/files/bridge_address.sh"
ADDRESS = "02:73:65:6e:65:78"
NOBLE = 'NAME="Ubuntu"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n'
SENEX = {"packages": [], "users": {}, "linger": [], "user_manager": {}}
STEP = "-/bin/sh /opt/senex-trader/bin/senex-bridge-address senex-trader_senex_network"


def host_of(system, **senex):
    return {"ansible_facts": {"memtotal_mb": 7940, "default_ipv4": {"address": "10.0.0.5"}, "ansible_local": {"senex": {**SENEX, **senex}}, **system}}


@pytest.fixture
def noble(fact):  # noqa: F811
    return fact.parse_system(NOBLE, "trixie/sid\n")


def debian(**senex):
    return host_of({"distribution": "Debian", "distribution_version": "13.1"}, **senex)


def test_what_netavark_says_of_itself_is_read(fact):  # noqa: F811
    assert fact.parse_version("netavark 1.4.0\n") == "1.4.0"


@pytest.mark.parametrize(
    ("version", "old"),
    [("1.4.0", True), ("1.8.0", True), ("1.9.0", False), ("1.10.3", False), ("1.14.0", False), ("2.0.0", False), (None, True)],
)
def test_a_host_of_ubuntu_24_04_counts_as_what_it_has(noble, version, old):
    """Before netavark is installed, as what its sources have; after an upgrade from elsewhere as the new one."""
    inputs = host_of(noble, netavark_version=version)
    packages = value("podman", "__podman_packages", **inputs)
    assert ("iptables" in packages, "iproute2" in packages) == (old, old)
    assert ("bin/senex-bridge-address" in component("podman", **{**BASE, **inputs})[0]) == old
    assert bool(value("podman", "senex_netavark_old", **host_of(noble))) is True, "facts of an earlier version of the collection know no netavark"


def test_on_hosts_of_debian_13_nothing_more_is_installed():
    for inputs in (debian(), debian(netavark_version="1.14.0", podman_version="5.4.2")):
        assert value("podman", "__podman_packages", **inputs) == [
            "podman", "crun", "netavark", "aardvark-dns", "passt", "uidmap", "dbus-user-session", "nftables", "ca-certificates",
        ]  # fmt: skip
        assert "bin/senex-bridge-address" not in component("podman", **{**BASE, **inputs})[0]
        assert [name for name, text in units_of(inputs).items() if "senex-bridge-address" in text] == []
    assert "iptables" in value("podman", "__podman_packages", **debian(netavark_version="1.4.0")), "whatever its system is"


def lasting(inputs):
    """Units of containers that stay."""
    return {name: text for name, text in units_of(inputs).items() if name.endswith(".container") and name != "release.container"}


def test_each_start_gives_the_bridge_its_address_before_it_waits_for_anything(noble):
    found = lasting({**host_of(noble), "celery_flower_enabled": True})
    assert {"postgres.container", "redis.container", "web-1.container", "celery-worker-next.container", "celery-flower.container"} <= set(found)
    for name, text in found.items():
        assert unit_text.values(text, "Service", "ExecStartPost")[0] == STEP, name
        assert check_unit(text, name, (4, 9, 3)) == []


def test_look_ups_that_are_lost_are_asked_again_soon_everywhere(noble):
    for inputs in (host_of(noble), debian(netavark_version="1.14.0")):
        units = [text for name, text in units_of({**inputs, "celery_flower_enabled": True}).items() if name.endswith(".container")]
        assert len(units) > 6 and all("Network=" in text for text in units)
        for text in units:
            assert unit_text.values(text, "Container", "DNSOption") == ["timeout:1", "attempts:5"]
    assert all("DNSOption" not in text for text in units_of({"senex_dns_options": []}).values())
    assert "podman" in ROLES and "DNSOption" not in units_of({})["senex-network.network"]


def test_the_image_that_is_asked_for_its_migrations_looks_up_likewise(monkeypatch):
    user, asked = ServiceUser(pwd.getpwuid(os.getuid()).pw_name, "/nowhere"), []
    answer = subprocess.CompletedProcess([], 0, release_steps.MARK + "{}", "")
    monkeypatch.setattr(user, "run", lambda argv, **_: asked.append(argv) or answer)
    container = value("release", "__release_container", **BASE, **loaded(ALL_ROLES.parent / "playbooks/vars/release.yml"), release_reference="app:2")
    release_steps.plan(user, {**container, "unit": component("django", **BASE, senex_image_reference="app:2")[0]["release.container"][0]}, "")
    (words,) = [argv for argv in asked if "app:2" in argv]
    assert {"--dns-option=timeout:1", "--dns-option=attempts:5"} <= set(words[: words.index("app:2")])


# Podman of 4.9, as far as the program asks it; `ip` knows one bridge, and writes down what is changed
PODMAN = """#!/bin/sh
case "$*" in
    "network inspect --format {{.NetworkInterface}} senex_net") echo podman1 ;;
    "network inspect "*) echo "Error: network $5: unable to find network with name or ID $5: network not found" >&2; exit 125 ;;
    "unshare --rootless-netns "*) shift 2; INSIDE=yes exec "$@" ;;
    *) exit 99 ;;
esac
"""
IP = """#!/bin/sh
[ "$INSIDE" = yes ] || exit 98
case "$*" in
    "-o link show dev podman1") echo "3: podman1: <BROADCAST,UP> mtu 1500 state UP \\\\    link/ether $(cat $STATE) brd ff:ff:ff:ff:ff:ff" ;;
    "link set dev podman1 address "*) echo "$6" >$STATE; echo set >>$STATE.log ;;
    *) echo "Device \\"$5\\" does not exist." >&2; exit 1 ;;
esac
"""


NFT = """#!/bin/sh
[ "$INSIDE" = yes ] && [ "$*" = "-f -" ] || exit 98
! [ -e $STATE.refuses ] || exit 1
cat >>$STATE.rules
"""


@pytest.fixture
def bridge(tmp_path):
    for name, text in (("podman", PODMAN), ("ip", IP), ("nft", NFT)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    state = tmp_path / "state"
    state.write_text("ba:5e:00:00:00:01\n")

    def run(network="senex_net"):
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "STATE": str(state)}
        return subprocess.run(["/bin/sh", BRIDGE, network], env=environment, capture_output=True, text=True, check=False)

    run.state = state
    return run


def test_the_bridge_gets_its_address_once(bridge):
    for _ in range(2):
        done = bridge()
        assert (done.returncode, done.stderr) == (0, "")
        assert bridge.state.read_text().strip() == ADDRESS
    assert (bridge.state.parent / "state.log").read_text() == "set\n"
    bridge.state.write_text("ba:5e:00:00:00:02\n")  # a bridge that was made anew
    assert bridge().returncode == 0 and bridge.state.read_text().strip() == ADDRESS


def test_each_start_says_anew_that_nothing_is_refused_and_one_trouble_hides_no_other(bridge):
    """The rules go with the network's namespace, which is made anew after its last container; twice in one they would pile up."""
    rules, refuses = (bridge.state.parent / f"state.{name}" for name in ("rules", "refuses"))
    assert bridge().returncode == 0
    once = rules.read_text()
    assert 0 < once.find("delete table") < once.find(" drop"), "what is there already goes first"
    assert bridge().returncode == 0 and rules.read_text() == 2 * once
    refuses.touch()
    bridge.state.write_text("ba:5e:00:00:00:03\n")
    assert bridge().returncode != 0 and bridge.state.read_text().strip() == ADDRESS, "the address does not depend on them"
    refuses.unlink()
    (bridge.state.parent / "ip").write_text("#!/bin/sh\nexit 1\n")
    assert bridge().returncode != 0 and rules.read_text() == 3 * once, "nor they on it"


def test_the_address_is_of_one_station_and_nobodys():
    first = int(ADDRESS[:2], 16)
    assert ADDRESS in BRIDGE.read_text() and (first & 1, first & 2) == (0, 2)


def test_a_network_that_is_not_there_is_said(bridge):
    done = bridge("other")
    assert done.returncode != 0 and "network not found" in done.stderr

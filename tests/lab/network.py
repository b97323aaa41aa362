"""The network of the test hosts: one bridge with an address of its own that never changes, and names that need no resolver."""

import json
from pathlib import Path

from settings import DIRECTORY, DYNAMIC_RANGE, NETWORK, PREFIX, REGISTRY_ADDRESS, REGISTRY_NAME, STORAGE
from shell import run

DEFINITION = STORAGE / "networks" / f"{NETWORK}.json"
HOSTS_FILE = DIRECTORY / "etc" / "hosts"
# Podman copies this into every container in the place of the machine's own file, which anybody may have edited
HOSTS = f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{REGISTRY_ADDRESS} {REGISTRY_NAME}\n"
# aardvark-dns 1.4 loses questions while it reads its files anew; resolv.conf(5) has 5 s and 2 attempts
DNS_OPTIONS = ["timeout:1", "attempts:5"]
# include/uapi/linux/netdevice.h: NET_ADDR_SET, an address that somebody gave the device
GIVEN = "3"


def mac(address):
    """The same after each start, as a real machine's: a new one is not found for 20 s by neighbours that remember the old."""
    return "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def create():
    """Define the network where it is missing."""
    if not DEFINITION.exists():
        run("podman", "network", "create", f"--subnet={PREFIX}.0/24", f"--ip-range={DYNAMIC_RANGE}", NETWORK)


def bridge():
    """The device of the bridge: a path that exists while a container is on the network."""
    return Path("/sys/class/net", json.loads(DEFINITION.read_text(encoding="utf-8"))["network_interface"])


def steady():
    """Give the bridge an address of its own. netavark before 1.9 gives none, and a bridge then takes the lowest of its ports':
    when hosts come or go it changes, and the others lose gateway and resolver until they ask for it anew."""
    device = bridge()
    wanted = mac(f"{PREFIX}.1")
    try:
        found = [(device / name).read_text(encoding="utf-8").strip() for name in ("address", "addr_assign_type")]
    except OSError:
        return
    if found != [wanted, GIVEN]:
        run("ip", "link", "set", "dev", device.name, "address", wanted)

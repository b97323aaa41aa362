"""What the common role makes harder, seen from the host."""

import os
import re
import subprocess
import time

import pytest


def test_sshd_settings(host):
    lines = set(host.check_output("sshd -T").splitlines())
    assert {"maxsessions 4", "loglevel VERBOSE", "allowtcpforwarding local", "allowagentforwarding no", "permituserenvironment no"} <= lines
    assert {"clientaliveinterval 150", "clientalivecountmax 2", "tcpkeepalive no", "banner /etc/issue.net"} <= lines


class Ssh:
    """As an operator comes in: over the network, with the key of the lab."""

    def __init__(self, host):
        directory = os.environ.get("SENEX_LAB_DIR") or "/var/lib/senex-lab"
        address = host.check_output("hostname -I").split()[0]
        key = f"IdentityFile={directory}/ssh/id_ed25519"
        options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", key, "IdentitiesOnly=yes"]
        self.words = [word for option in options for word in ("-o", option)]
        self.target = f"root@{address}"

    def run(self, program, *arguments, stdin=""):
        return subprocess.run([program, *self.words, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def ssh(host):
    return Ssh(host)


def test_who_comes_in_is_told_and_noted_by_key(host, ssh):
    came_in = ssh.run("ssh", ssh.target, "true")
    assert came_in.returncode == 0 and "Unauthorized access is prohibited" in came_in.stderr
    assert "Unauthorized access is prohibited" in host.file("/etc/issue").content_string
    host.check_output("journalctl --sync")
    assert "SHA256:" in host.check_output("journalctl --unit=ssh --grep='Accepted publickey for root' --lines=1 --output=cat --no-pager")


def test_copying_files_still_works(ssh, tmp_path):
    copied = ssh.run("sftp", "-b", "-", ssh.target, stdin=f"get /etc/hostname {tmp_path}/name\n")
    assert copied.returncode == 0, copied.stderr
    assert (tmp_path / "name").read_text(encoding="utf-8").strip()


def test_more_sessions_than_allowed_fall_back_to_a_connection_each(ssh, tmp_path):
    """Ansible shares a connection: what is refused a session on it opens another one and works all the same."""
    shared = ["-o", "ControlMaster=auto", "-o", f"ControlPath={tmp_path}/s", "-o", "ControlPersist=60"]
    assert ssh.run("ssh", *shared, ssh.target, "true").returncode == 0
    command = ["ssh", *ssh.words, *shared, ssh.target, "sleep 3; echo done"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    try:
        assert [run.communicate(timeout=60)[0] for run in runs] == ["done\n"] * 6
    finally:
        ssh.run("ssh", *shared, "-O", "exit", ssh.target)


def test_a_client_opens_no_port_on_the_host(host, ssh):
    refused = ssh.run("ssh", "-o", "ExitOnForwardFailure=yes", "-R", "127.0.0.1:9977:127.0.0.1:22", ssh.target, "true")
    assert refused.returncode != 0 and "remote port forwarding failed" in refused.stderr
    assert ":9977" not in host.check_output("ss -Htln")


@pytest.fixture(scope="module")
def packages(host):
    """What measures; no part of a host."""
    host.check_output("apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends kmod")


@pytest.mark.parametrize("module", ["dccp", "sctp", "rds", "tipc", "cramfs", "usb-storage"])
def test_module_is_never_loaded(host, packages, module):
    assert host.check_output(f"modprobe --dry-run --verbose {module} 2>/dev/null").strip() == "install /bin/false"


def test_what_containers_need_is_not_blocked(host, packages):
    blocked = re.findall(r"^install (\S+)", host.check_output("modprobe --showconfig 2>/dev/null"), re.M)
    assert not {"overlay", "fuse", "tun", "squashfs", "nf_tables", "veth", "bridge"} & set(blocked)
    assert host.run("runuser -u nobody -- unshare --user --map-root-user true").rc == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kernel.dmesg_restrict", 1),
        ("dev.tty.ldisc_autoload", 0),
        ("fs.protected_symlinks", 1),
        ("fs.protected_hardlinks", 1),
        ("fs.suid_dumpable", 0),
        ("net.ipv4.conf.all.rp_filter", 1),
        ("net.ipv4.conf.all.secure_redirects", 0),
        ("net.ipv4.icmp_ignore_bogus_error_responses", 1),
        ("net.ipv4.tcp_fin_timeout", 31),
    ],
)
def test_kernel_setting(host, key, value):
    """The last one is of common_sysctl_overrides."""
    assert host.sysctl(key) == value


def test_a_crash_leaves_nothing_on_disk(host):
    """SIGSEGV writes `core` into the working directory where it may, or hands it to systemd-coredump."""
    unit = f"crash-{time.monotonic_ns()}"
    directory = f"/var/tmp/{unit}"
    host.check_output(f"install -d {directory}")
    try:
        crashed = host.run(f"systemd-run --quiet --wait --collect --unit={unit} --working-directory={directory} sh -c 'ulimit -c unlimited; kill -SEGV $$'")
        assert crashed.rc != 0
        assert host.check_output(f"ls {directory}") == ""
    finally:
        host.run(f"rm -r {directory}")
    assert host.check_output("systemctl show --property=DefaultLimitCORE") == "DefaultLimitCORE=0"
    assert "Storage=none" in host.check_output("systemd-analyze cat-config systemd/coredump.conf")


def test_login_shells(host):
    said = host.check_output("env -i HOME=/root bash -lc 'umask; echo $TMOUT; ulimit -Hc'").split()
    assert said == ["0027", "3600", "0"]
    assert host.check_output("env -i HOME=/root sh -c umask") == "0022"

"""A virtual machine under software emulation: a host of the lab that gets a kernel of its own, and with it what a container cannot have
(limits of memory and processors, swap). Ten times as slow as a container. It answers over ssh on loopback, and reaches nothing."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import images
import snapshots
from settings import DIRECTORY, IMAGE_PREFIX, SSH_KEY
from shell import LabError, output, run, runs, step

PLACE = DIRECTORY / "machines"
EMULATOR = "qemu-system-x86_64"
# Where the service user's units and containers are described
UNITS = "senex-trader/.config"
DISK_MB = 12288
# It ends by itself, should nobody end it
LIFE_SECONDS = 3000
BOOT_SECONDS = 600
# The emulator's network; its resolver answers nothing where nothing may go out
ADDRESS, GATEWAY, RESOLVER = "10.0.2.15", "10.0.2.2", "10.0.2.3"
# What an emulated processor pays for dearly
LEAN = "quiet net.ifnames=0 mitigations=off audit=0 lsm=capability,yama systemd.show_status=0 random.trust_cpu=1"
# Half a minute of start each, and nothing that a machine is for
STILL = ("apt-daily.timer", "apt-daily-upgrade.timer", "cron.service", "fail2ban.service", "getty.target", "nginx.service", "senex-watchdog.service",
         "serial-getty@ttyS0.service", "ufw.service", "user@0.service", "unattended-upgrades.service")  # fmt: skip
# What a container's unit gives its checks and its start; each check costs seconds
SLOW = ((r"^(Health\w*Timeout|TimeoutStartSec)=.*", r"\1=900s"), (r"^HealthInterval=.*", "HealthInterval=1h"), (r"\btimeout \d+ ", "timeout 600 "))
# In the place of what a container needs to pass for a machine
BEGIN = f"""\
[Unit]
DefaultDependencies=no
After=systemd-remount-fs.service systemd-tmpfiles-setup-dev.service
Before=sysinit.target
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec ' \\
    modprobe --all fuse tun overlay; chmod 666 /dev/fuse /dev/net/tun; \\
    ip link set lo up; ip address add {ADDRESS}/24 dev eth0; ip link set eth0 up; ip route add default via {GATEWAY}'

[Install]
WantedBy=sysinit.target
"""


def up(name, memory, parts):
    """Boot a stopped host of the lab with these of its containers, wait for ssh, print the port of it. The host is no container any more."""
    images.build(["kernel"])
    down([name])
    place = PLACE / name
    place.mkdir(parents=True)
    with step(f"machine {name}: disk"):
        _disk(place, name, parts)
    with step(f"machine {name} up"):
        process, port = _boot(place, memory)
        _wait(place, process, port)
    print(port)


def _disk(place, name, parts):
    if runs(name):
        raise LabError(f"{name} runs: lab stop {name} first")
    opt = snapshots.opt_of(name)
    kernel = Path(output("podman", "image", "mount", f"{IMAGE_PREFIX}/kernel"))
    root = Path(output("podman", "mount", name))
    try:
        _furnish(root, kernel, name)
        _still(root, opt, parts)
        for prefix, target in (("vmlinuz", "kernel"), ("initrd.img", "initrd")):
            shutil.copy(next((kernel / "boot").glob(f"{prefix}-*")), place / target)
        with open(place / "disk", "wb") as disk:
            disk.truncate(DISK_MB << 20)
        # Not copied: an overlay takes none of the marks that the containers' own overlays are made of
        run("mount", "--bind", opt, root / "opt")
        try:
            run("mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=1,root_owner=0:0", "-d", root, place / "disk", timeout=600)
        finally:
            run("umount", root / "opt")
    finally:
        run("podman", "umount", name, check=False)
        run("podman", "image", "umount", f"{IMAGE_PREFIX}/kernel", check=False)


def _furnish(root, kernel, host):
    """What a machine has that a container has not: modules and their loader, a network card, a name of its own."""
    run("cp", "--archive", kernel / "lib/modules", root / "usr/lib/modules")
    for path in ("usr/bin/kmod", *(str(p.relative_to(kernel)) for p in (kernel / "usr/lib").glob("*-linux-gnu/libkmod.so.2*"))):
        run("cp", "--archive", kernel / path, root / path)
    for loader in ("modprobe", "lsmod"):
        (root / "usr/sbin" / loader).unlink(missing_ok=True)
        (root / "usr/sbin" / loader).symlink_to("../bin/kmod")
    (root / "etc/hostname").write_text(f"{host}\n", encoding="utf-8")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {host}\n", encoding="utf-8")
    (root / "etc/resolv.conf").write_text(f"nameserver {RESOLVER}\n", encoding="utf-8")
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n", encoding="utf-8")
    (root / "etc/machine-id").write_text("", encoding="utf-8")
    (root / "etc/systemd/system/lab-host.service").write_text(BEGIN, encoding="utf-8")
    (root / "etc/containers/containers.conf.d/lab.conf").unlink(missing_ok=True)  # it says that nothing can be limited
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(SSH_KEY.with_suffix(".pub"), root / "root/.ssh/authorized_keys")


def _still(root, opt, parts):
    """What else the host would start stays still: timers and jobs, which are enabled by links, and the other containers."""
    for link in Path(opt, UNITS, "systemd/user").glob("*.wants/*"):
        link.unlink()
    others = [f"{path.stem}.service" for path in Path(opt, UNITS, "containers/systemd").glob("*.container") if path.stem not in parts]
    for place, names in (("system", STILL), ("user", others)):
        for unit in names:
            path = root / "etc/systemd" / place / unit
            path.unlink(missing_ok=True)
            path.symlink_to("/dev/null")
    for part in parts:
        path = Path(opt, UNITS, f"containers/systemd/{part}.container")
        text = path.read_text(encoding="utf-8")
        for old, new in SLOW:
            text = re.sub(old, new, text, flags=re.MULTILINE)
        path.write_text(text, encoding="utf-8")  # owner and mode stay


def _boot(place, memory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [
        "timeout", "--kill-after=10", str(LIFE_SECONDS), "nice", "-n", "2", EMULATOR,
        "-machine", "q35", "-cpu", "max,la57=off", "-accel", "tcg,thread=multi,tb-size=512", "-smp", "2", "-m", str(memory), "-nodefaults", "-no-reboot",
        "-display", "none", "-serial", f"file:{place / 'console'}", "-device", "virtio-rng-pci",
        "-kernel", place / "kernel", "-initrd", place / "initrd", "-append", f"root=/dev/vda rw console=ttyS0 panic=5 {LEAN}",
        "-drive", f"file={place / 'disk'},if=virtio,format=raw,cache=unsafe",
        "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", "virtio-net-pci,netdev=net",
    ]  # fmt: skip
    with open(place / "emulator", "wb") as log:
        process = subprocess.Popen([str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (place / "pid").write_text(str(process.pid), encoding="utf-8")
    return process, port


def _wait(place, process, port):
    deadline = time.monotonic() + BOOT_SECONDS
    options = ["-i", SSH_KEY, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20"]
    while run("ssh", *options, "-p", port, "root@127.0.0.1", "true", check=False).returncode:
        if time.monotonic() > deadline or process.poll() is not None:
            said = [(place / name).read_text(encoding="utf-8", errors="replace")[-4000:] for name in ("emulator", "console") if (place / name).exists()]
            raise LabError("the machine does not answer over ssh:\n" + "\n".join(said))
        time.sleep(1)


def _alive(place):
    try:
        pid = int((place / "pid").read_text(encoding="utf-8"))
        return EMULATOR in Path("/proc", str(pid), "cmdline").read_text(encoding="utf-8") and pid
    except (OSError, ValueError):
        return False


def down(names):
    """End machines; their disks go with them."""
    for name in names:
        place = PLACE / name
        if pid := _alive(place):
            with step(f"machine {name} down"), contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        shutil.rmtree(place, ignore_errors=True)


def all_names():
    return sorted(path.name for path in PLACE.iterdir()) if PLACE.exists() else []

"""The key table, by itself and beside the real generator where there is one."""

import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "plugins" / "module_utils" / "engine"))
import quadlet_keys

GENERATOR = "/usr/lib/systemd/system-generators/podman-system-generator"

GOOD = """\
# A comment with Memory=1
[Unit]
Description=A database
Wants=senex-network.service

[Container]
Image=registry.example.com/postgres:15
; Memory=1
Exec=postgres \\
  # Memory=1 is a comment between continued lines
  -c shared_buffers=1GB \\
  -c Memory=1
PodmanArgs=--stop-timeout=60

[Service]
MemoryMax=2G
AnythingAtAll=1

[Install]
WantedBy=default.target
"""


def check(body, version=(5, 4, 2), name="postgres.container"):
    return quadlet_keys.check_unit(body, name, version)


@pytest.mark.parametrize("version", [(4, 9, 3), (5, 0, 0), (5, 4, 2), (5, 7, 1), (5, 8, 2), (6, 0, 0), (6, 1, 0)])
def test_a_good_unit_passes(version):
    assert check(GOOD, version) == []


def test_a_key_of_a_later_podman_is_named_with_its_line_and_a_way_out():
    assert check(GOOD.replace("PodmanArgs=--stop-timeout=60", "Memory=4G")) == [
        "postgres.container:13: 'Memory=' in [Container] needs Podman 5.5, this host has 5.4.2: use MemoryMax= in [Service]"
    ]


@pytest.mark.parametrize(
    ("key", "version", "says"),
    [
        ("MemorySwap", (5, 8, 0), "no key 'MemorySwap=' in any Podman: use MemorySwapMax= in [Service]"),
        ("CPUQuota", (5, 8, 0), "no key 'CPUQuota=' in any Podman: use CPUQuota= in [Service]"),
        ("StopTimeout", (4, 9, 3), "needs Podman 5.0, this host has 4.9.3: use PodmanArgs=--stop-timeout=..."),
        ("NetworkAlias", (4, 9, 3), "needs Podman 5.2, this host has 4.9.3: use PodmanArgs=--network-alias=..."),
        ("Memory", (5, 4, 2), "needs Podman 5.5"),
        ("ReloadSignal", (5, 4, 2), "needs Podman 5.5"),
        ("HttpProxy", (5, 6, 2), "needs Podman 5.7"),
        ("AppArmor", (5, 7, 1), "needs Podman 5.8"),
        ("ImageVolume", (6, 0, 0), "needs Podman 6.1, this host has 6.0.0: use PodmanArgs=--image-volume=..."),
        ("ImageVolumes", (6, 1, 0), "did you mean ImageVolume=?"),
        ("Restart", (5, 4, 2), "use Restart= in [Service]"),
        ("Wants", (5, 4, 2), "use Wants= in [Unit]"),
        ("WantedBy", (5, 4, 2), "use WantedBy= in [Install]"),
        ("HealthCommand", (5, 4, 2), "did you mean HealthCmd=?"),
        ("image", (5, 4, 2), "did you mean Image=?"),
    ],
)
def test_unknown_keys(key, version, says):
    (message,) = check(f"[Container]\nImage=a\n{key}=1\n", version)
    assert message.startswith("postgres.container:3: ") and says in message


@pytest.mark.parametrize(
    ("key", "version"),
    [("StopTimeout", (5, 0, 0)), ("Memory", (5, 5, 0)), ("Secret", (4, 9, 3)), ("PidsLimit", (4, 9, 3)), ("AppArmor", (6, 0, 0)), ("ImageVolume", (6, 1, 0))],
)
def test_known_keys(key, version):
    assert check(f"[Container]\nImage=a\n{key}=1\n", version) == []


@pytest.mark.parametrize(("key", "hint"), [("UID", "User="), ("GID", "Group=")])
def test_who_owns_a_volume(key, hint):
    volume = f"[Volume]\nVolumeName=media\n{key}=1000\n"
    assert check(volume, (5, 8, 6), "media.volume") == [f"media.volume:3: '{key}=' in [Volume] needs Podman 6.0, this host has 5.8.6: use {hint}"]
    assert check(volume, (6, 0, 0), "media.volume") == []


def test_a_later_minor_than_the_table_knows_has_all_of_it():
    """Numbers, not text: 5.10 comes after 5.8, and 10 after 6."""
    for version in ((5, 10, 0), (6, 12, 0), (10, 0, 0)):
        assert check("[Container]\nImage=a\nAppArmor=x\n", version) == []


def test_what_an_older_podman_would_ignore_is_said():
    assert "Notify=healthy needs Podman 5.0" in check("[Container]\nImage=a\nNotify=healthy\n", (4, 9, 3))[0]
    assert check("[Container]\nImage=a\nNotify=healthy\n", (5, 0, 0)) == []
    assert "a drop-in needs Podman 5.0" in check("[Container]\nUser=1\n", (4, 9, 3), "web.container.d/10-user.conf")[0]
    assert check("[Container]\nUser=1\n", (5, 4, 2), "web.container.d/10-user.conf") == []
    assert "a template needs Podman 5.0" in check("[Container]\nImage=a\n", (4, 9, 3), "web@.container")[0]
    assert "After=db.container needs Podman 5.5" in check("[Unit]\nAfter=x.service db.container\n[Container]\nImage=a\n")[0]
    assert check("[Unit]\nAfter=db.container\n[Container]\nImage=a\n", (5, 5, 0)) == []


def test_files_and_sections():
    assert check("[Pod]\nPodName=x\n", (4, 9, 3), "x.pod") == ["x.pod: .pod files need Podman 5.0, this host has 4.9.3"]
    (message,) = check("[Network]\n[Container]\nImage=a\nUser=1\n", name="x.network")
    assert "section [Container] has no place in a .network file; use [Network]" in message
    assert check("[Unit]\nDescription=x\n", name="x.volume") == ["x.volume: section [Volume] is missing"]
    assert check("Image=a\n[Container]\n")[0].startswith("postgres.container:1: neither a section")
    assert check("[Container]\nImage a\n")[0].startswith("postgres.container:2: neither a section")
    assert "not a Quadlet file" in check("", name="x.service")[0]
    assert check("[Container]\nImage=a\n", name=".container") == []


def test_the_quadlet_section():
    unit = "[Container]\nImage=a\n[Quadlet]\nDefaultDependencies=false\n"
    assert check(unit, (5, 3, 0)) == []
    assert "needs Podman 5.3" in check(unit, (4, 9, 3))[0]


def generator_refuses(tmp_path, suffix, section, key):
    # Alone with what each kind of file cannot do without, so that the key is all there is to refuse.
    required = {"Container": "Image=a\n", "Kube": "Yaml=/a.yml\n", "Image": "Image=a\n", "Build": "ImageTag=a\nFile=/a\n"}
    unit = tmp_path / f"key.{suffix}"
    unit.write_text(f"[{section}]\n{required.get(section, '')}{key}=\n")
    environment = {**os.environ, "QUADLET_UNIT_DIRS": str(tmp_path)}
    run = subprocess.run([GENERATOR, "-dryrun", "-user"], env=environment, capture_output=True, text=True, check=False)
    unit.unlink()
    return f"unsupported key '{key}'" in run.stderr + run.stdout


@pytest.mark.skipif(not os.path.exists(GENERATOR), reason="no Quadlet generator here")
def test_the_table_agrees_with_the_generator_of_this_host(tmp_path):
    found = subprocess.run(["podman", "--version"], capture_output=True, text=True, check=True).stdout
    version = tuple(int(part) for part in re.search(r"(\d+)\.(\d+)\.(\d+)", found).groups())
    wrong = []
    for suffix, (section, since) in quadlet_keys.FILES.items():
        if version < tuple(int(part) for part in since.split(".")):
            continue
        for key in [*quadlet_keys.KEYS[section], "NoSuchKey", "MemorySwap"]:
            said = any(f"'{key}='" in message for message in check(f"[{section}]\n{key}=\n", version, f"key.{suffix}"))
            if said != generator_refuses(tmp_path, suffix, section, key):
                wrong.append(f"[{section}] {key}")
    assert wrong == []


@pytest.mark.parametrize("text", ["[Container]\n" + "Imagf=\n" * 9000, "x\n" * 32000, "[Container]\n" + "[Pod]\nx=1\n[Kube]\nx=1\n" * 4000])
def test_a_file_with_thousands_of_mistakes_takes_neither_time_nor_room(text):
    began = time.process_time()
    found = check(text, (5, 4, 2), "a.container")
    assert len(found) <= quadlet_keys.MOST + 1 and sum(map(len, found)) < 5000 and time.process_time() - began < 0.5

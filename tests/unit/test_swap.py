"""The swap file, which no test host may have: a container's would be its machine's."""

import shutil
import subprocess

import pytest
import yaml
from rendered import ROLES, value

MAKE = next(task for task in yaml.safe_load((ROLES / "common/tasks/main.yml").read_text()) if task["name"] == "Make the swap file")


@pytest.mark.parametrize("path", ["/swapfile", "/var/swap-file", "/data/a-b/swap"])
def test_the_unit_has_the_name_that_systemd_wants(path):
    if not shutil.which("systemd-escape"):
        pytest.skip("no systemd here")
    wanted = subprocess.run(["systemd-escape", "--path", "--suffix=swap", path], capture_output=True, text=True, check=True).stdout.strip()
    assert value("common", "__common_swap_unit", common_swap_file=path) == wanted
    assert value("common", "__common_files_swap", common_swap_file=path)[0]["dest"] == f"/etc/systemd/system/{wanted}"


@pytest.mark.parametrize(("size", "said", "ours"), [(0, None, False), (512, "Setting up swapspace", True), (512, None, True), (512, "other swap", False)])
def test_only_a_file_of_ours_has_a_unit(size, said, ours):
    """Of a file that is there already nothing is said."""
    inputs = {"common_swap_mb": size, "common_swap_file": "/swapfile", **({} if said is None else {"__common_swap_made": {"stdout": said}})}
    assert value("common", "__common_swap_ours", **inputs) is ours


@pytest.mark.parametrize("swap", ["", "/dev/sda2"])
def test_where_there_is_other_swap_no_file_is_made(tmp_path, swap):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"swapon": f"echo {swap}", "fallocate": 'printf x >"$3"', "mkswap": 'test "$(stat -c %a "$1")" = 600; echo made'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    argv = MAKE["ansible.builtin.command"]["argv"][:4]
    done = subprocess.run([*argv, tmp_path / "swapfile", "64"], env={"PATH": f"{programs}:/usr/bin:/bin"}, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), (tmp_path / "swapfile").exists()) == (("other swap", False) if swap else ("made", True))
    assert MAKE["changed_when"].endswith("!= 'other swap'")

"""A vault is never lost: whatever way its password was given, and whatever happens while it is written."""

import contextlib
import os
import pathlib
import pty
import select
import signal
import stat
import subprocess
import time

import pytest
from ansible.parsing.vault import VaultSecret
from ansible_collections.senex.trader.plugins.plugin_utils import vault_text
from ansible_collections.senex.trader.plugins.plugin_utils.kept_place import mounted, thrown_away
from controller import BIN, ONE, ROOT, Stubbed, run

SECRETS = {"vault_flower_password": "old-flower-password", "vault_database_password": "old-database-password", "vault_ca_passphrase": "of-the-authority"}


def client_with(home, answer):
    """A password client of somebody's own."""
    client = home / "own-client"
    client.write_text(f"#!/bin/sh\necho {answer}\n")
    client.chmod(0o755)
    return client


# -- rotate.yml

WAYS = {
    "a file by vault id": lambda stack: {},
    "a password file": lambda stack: {"ANSIBLE_VAULT_IDENTITY_LIST": "", "ANSIBLE_VAULT_PASSWORD_FILE": str(stack.password)},
    "a client of one's own": lambda stack: {"ANSIBLE_VAULT_IDENTITY_LIST": f"canary@{client_with(stack.home, 'of the vault')}"},
    "the environment": lambda stack: {
        "ANSIBLE_VAULT_IDENTITY_LIST": f"canary@{stack.tree}/inventory/vault-client", "SENEX_VAULT_PASSWORD_CANARY": "of the vault",
    },
}  # fmt: skip


# The password file of `make demo` is by vault id, and users have it in the environment
LATER = {"a password file", "a client of one's own"}


@pytest.mark.parametrize("way", [pytest.param(way, marks=[pytest.mark.faults] * (way in LATER)) for way in WAYS])
def test_a_rotation_writes_with_the_password_that_opened_the_vault(tmp_path, way):
    stack = Stubbed(tmp_path, ONE, SECRETS)
    stack.vault.chmod(0o640)
    before = stack.vault.read_bytes()
    result = stack.rotate("flower_password", **WAYS[way](stack))
    assert result.returncode == 0, stack.said
    after = stack.secrets()
    assert after is not None, "the password that opened the vault opens it no more"
    assert after["vault_flower_password"] not in (None, SECRETS["vault_flower_password"])
    assert after["vault_ca_passphrase"] == SECRETS["vault_ca_passphrase"]
    assert "vault_rotation" not in after and "flower_password" in after["vault_rotated"]
    assert stat.S_IMODE(stack.vault.stat().st_mode) == 0o640
    assert stack.vault.read_text().startswith("$ANSIBLE_VAULT;1.2;AES256;canary\n")
    copies = stack.copies()
    assert len(copies) == 2 and before in [copy.read_bytes() for copy in copies]
    assert {stat.S_IMODE(copy.stat().st_mode) for copy in copies} == {0o600}
    assert all(str(copy) in stack.said for copy in copies), "who runs it is told where the old ones are"
    assert not [value for value in (SECRETS["vault_flower_password"], after["vault_flower_password"]) if value in stack.said]


@pytest.mark.faults
def test_a_password_that_is_typed_in_encrypts_as_well(tmp_path):
    stack = Stubbed(tmp_path, ONE, SECRETS)
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path), "ANSIBLE_COLLECTIONS_PATH": f"{tmp_path}:{ROOT}",
        "STUB_LOST": str(tmp_path / "never"), "STUB_HOST": "", "ANSIBLE_VAULT_IDENTITY_LIST": "",
    }  # fmt: skip
    words = [
        "-i",
        stack.inventory,
        "--vault-id",
        "canary@prompt",
        "-e",
        "secret=flower_password",
        "-e",
        "rotate_confirm=true",
        "-e",
        "vault_place_is_kept=true",
    ]
    argv = [str(word) for word in ("ansible-playbook", stack.tree / "playbooks/rotate.yml", *words)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execvpe(argv[0], argv, environment)
    said, end = b"", time.monotonic() + 120
    with contextlib.suppress(OSError):  # how a terminal ends
        while time.monotonic() < end:
            if select.select([terminal], [], [], 1)[0]:
                said += os.read(terminal, 4096)
            elif said.rstrip().endswith(b":"):
                # getpass(3) throws away what came before it turned the echo off, so it is typed once the prompt has stood for a second
                os.write(terminal, b"of the vault\n")
        os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, said.decode()
    assert stack.secrets()["vault_flower_password"] != SECRETS["vault_flower_password"]


# -- secrets.yml


def test_a_missing_secret_is_added_with_the_password_that_opened_the_vault(tmp_path):
    stack = Stubbed(tmp_path, ONE, SECRETS)
    added = stack.play("secrets.yml", "-e", "secrets_create_password_file=true", "-e", "{secrets_given: []}", "--skip-tags", "never")
    assert "missing, while the rest of the certificate authority" in added.stdout
    stack.write({name: value for name, value in SECRETS.items() if "ca_" not in name})
    before = stack.vault.read_bytes()
    added = stack.play("secrets.yml", "-e", "secrets_create_password_file=true")
    assert added.returncode == 0, stack.said
    after = stack.secrets()
    assert after is not None, "the password that opened the vault opens it no more"
    assert after["vault_database_password"] == SECRETS["vault_database_password"] and after["vault_redis_password"]
    (copy,) = stack.copies()
    assert copy.read_bytes() == before
    assert not (tmp_path / ".config/senex.trader").exists(), "a vault that opens needs no other password"


@pytest.mark.parametrize("words", [[], ["-e", "secrets_create_password_file=true"]])
def test_a_vault_that_no_password_opens_stays(tmp_path, words):
    stack = Stubbed(tmp_path, ONE, SECRETS)
    before = stack.vault.read_bytes()
    (stack.vault.parent / "main.yml").write_text("senex_environment: canary\n")
    # As read by whoever has an inventory without the vault beside it
    refused = stack.play("secrets.yml", *words, ANSIBLE_VAULT_IDENTITY_LIST=f"canary@{stack.tree}/inventory/vault-client")
    assert refused.returncode != 0
    assert stack.vault.read_bytes() == before and stack.copies() == []
    assert not list((tmp_path / ".config").rglob("*")), "a password was made that opens nothing"


def test_what_is_not_encrypted_is_not_written_over(tmp_path):
    stack = Stubbed(tmp_path, ONE, SECRETS)
    stack.vault.write_text("vault_redis_password: by-hand-and-in-the-open\n")
    refused = stack.play("secrets.yml")
    assert refused.returncode != 0 and "it is not encrypted; encrypt it first" in stack.said, stack.said
    assert stack.vault.read_text() == "vault_redis_password: by-hand-and-in-the-open\n"


# -- the client


def test_the_client_invents_nothing_for_whoever_writes(tmp_path):
    client = ROOT / "inventory/vault-client"
    for writer in (["sh", "-c"], [str(tmp_path / "ansible-vault"), "-c"], [str(tmp_path / "ansible-playbook"), "--write"]):
        shell = tmp_path / pathlib.Path(writer[0]).name
        if not shell.exists():
            shell.symlink_to("/bin/sh")
        flag = " --write" if writer[1] == "--write" else ""
        asked = subprocess.run(
            [writer[0] if writer[0] != "sh" else "/bin/sh", "-c", f"{client} --vault-id staging{flag}; exit $?"],
            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (asked.returncode, asked.stdout) == (2, ""), writer
        assert "SENEX_VAULT_PASSWORD_STAGING" in asked.stderr


def test_whose_parent_cannot_be_seen_counts_as_a_writer(tmp_path):
    """A job's container may have neither ps nor another's /proc."""
    text = (ROOT / "inventory/vault-client").read_text()
    blind = tmp_path / "vault-client"
    blind.write_text(text.replace("/proc/$PPID/cmdline", "/nowhere").replace("ps -o", "no-such-ps -o"))
    blind.chmod(0o755)
    assert blind.read_text() != text
    (tmp_path / "ansible-vault").symlink_to("/bin/sh")
    asked = subprocess.run(
        [tmp_path / "ansible-vault", "-c", f"{blind} --vault-id staging; exit $?"],
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (asked.returncode, asked.stdout) == (2, "")


def test_an_answer_that_stands_for_none_is_no_password():
    given = [("canary", VaultSecret(b"no-password-for-canary-00ff")), ("canary", VaultSecret(b"real"))]
    assert [secret.bytes for _name, secret in vault_text.usable(given)] == [b"real"]
    assert vault_text.usable(None) == []


# -- the write itself

KEY = [("canary", VaultSecret(b"real"))]


@pytest.fixture
def vault(tmp_path):
    path = tmp_path / "vault.yml"
    path.write_bytes(vault_text.sealed("a: 1\n", "canary", *KEY[0]))
    return path


def replaced(path, text="a: 2\n", secrets=KEY):
    return vault_text.replace(str(path), vault_text.sealed(text, "canary", *KEY[0]), path.read_bytes(), secrets, text)


def test_a_killed_write_leaves_the_old_one(vault, monkeypatch):
    before = vault.read_bytes()

    def full(*given):
        raise OSError(28, "No space left on device")

    for place in ("fsync", "replace", "chmod"):
        with monkeypatch.context() as patch:
            patch.setattr(vault_text.os, place, full)
            with pytest.raises(OSError, match="No space"):
                replaced(vault)
        assert vault.read_bytes() == before
        assert [path.name for path in vault.parent.iterdir() if not path.name.endswith(".old")] == ["vault.yml"]


def test_what_does_not_open_again_takes_no_place(vault):
    before = vault.read_bytes()
    with pytest.raises(vault_text.VaultRefused, match="could not be opened again"):
        replaced(vault, secrets=[("canary", VaultSecret(b"another"))])
    assert vault.read_bytes() == before and [path.name for path in vault.parent.iterdir()] == ["vault.yml"]


def test_an_edit_of_somebody_else_is_not_written_over(vault):
    other = vault_text.sealed("a: theirs\n", "canary", *KEY[0])
    old = vault.read_bytes()
    vault.write_bytes(other)
    with pytest.raises(vault_text.VaultRefused, match="changed by somebody else"):
        vault_text.replace(str(vault), vault_text.sealed("a: 2\n", "canary", *KEY[0]), old, KEY, "a: 2\n")
    assert vault.read_bytes() == other


def test_copies_of_one_second_are_two(vault):
    kept = {replaced(vault, f"a: {number}\n") for number in range(2, 5)}
    assert len(kept) == 3
    assert sorted(vault_text.opened(pathlib.Path(copy).read_bytes(), KEY)[0] for copy in kept) == ["a: 1\n", "a: 2\n", "a: 3\n"]


def test_ansible_does_not_read_the_copies(tmp_path):
    stack = Stubbed(tmp_path, ONE, SECRETS)
    copy = vault_text.keep_old(str(stack.vault), b"vault_flower_password: of-the-copy\n")
    assert copy.endswith(".old")
    shown = run("ansible-inventory", "-i", stack.inventory, "--host", "one", ANSIBLE_VAULT_IDENTITY_LIST=stack.identity)
    assert "old-flower-password" in shown.stdout and "of-the-copy" not in shown.stdout


# -- places that are thrown away

MOUNTS = """\
1 0 0:1 / / rw - overlay overlay rw
2 1 0:2 / /home/dev/project rw - ext4 /dev/sda1 rw
3 1 0:3 / /scratch rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "environment", "job", "container", "kept"),
    [
        ("/srv/senex/inventory", {}, {}, False, True),
        ("/srv/senex/inventory", {}, {"awx_job_id": 7}, False, False),
        ("/srv/senex/inventory", {}, {"tower_job_id": 7}, False, False),
        ("/srv/senex/inventory", {"JOB_ID": "7", "AWX_HOST": "https://awx.example.com"}, {}, False, False),
        ("/srv/senex/inventory", {"JOB_ID": "of another scheduler"}, {}, False, True),
        ("/usr/share/collections/inventory", {}, {}, True, False),
        ("/scratch/inventory", {}, {}, True, False),
        ("/scratch/inventory", {}, {}, False, True),
        ("/home/dev/project/inventory", {}, {}, True, True),
    ],
)
def test_where_a_vault_would_be_lost(monkeypatch, path, environment, job, container, kept):
    monkeypatch.setattr("ansible_collections.senex.trader.plugins.plugin_utils.kept_place.existing", lambda path: path)
    why = thrown_away(path, environment, job, container, MOUNTS)
    assert (why is None) == kept
    assert kept or ("Run this playbook from a checkout" in why and path in why)


def test_the_working_directory_of_a_job_is_thrown_away(monkeypatch):
    monkeypatch.setattr("ansible_collections.senex.trader.plugins.plugin_utils.kept_place.existing", lambda path: path)
    assert thrown_away("/runner/project/inventory", {}, {}, True, "") and thrown_away("/runner", {}, {}, False, "")
    assert thrown_away("/runners/project", {}, {}, False, "") is None
    assert mounted("/home/dev/projects", MOUNTS) == ("/", "overlay")


@pytest.mark.parametrize("playbook", ["rotate.yml", "secrets.yml"])
def test_a_job_writes_nothing_that_it_would_lose(tmp_path, playbook):
    stack = Stubbed(tmp_path, ONE, {name: value for name, value in SECRETS.items() if "ca_" not in name})
    before = stack.vault.read_bytes()
    words = ["-e", "vault_place_is_kept=false", "-e", "awx_job_id=7", "-e", "secret=flower_password", "-e", "rotate_confirm=true"]
    refused = stack.play(playbook, *words)
    assert refused.returncode != 0 and "Run this playbook from a checkout" in stack.said, stack.said
    assert stack.vault.read_bytes() == before and stack.copies() == [] and stack.visits() == []


def test_a_password_file_is_made_only_where_it_is_kept(tmp_path):
    stack = Stubbed(tmp_path, ONE, SECRETS)
    stack.vault.unlink()
    refused = stack.play("secrets.yml", "-e", "vault_place_is_kept=false", "-e", "awx_job_id=7", "-e", "secrets_create_password_file=true")
    assert refused.returncode != 0 and "Run this playbook from a checkout" in stack.said
    assert not stack.vault.exists() and not list((tmp_path / ".config").rglob("*"))

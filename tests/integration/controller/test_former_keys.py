"""Keys that older copies need: kept by a rotation, read again when they are asked for, and named by a restore before it begins."""

import pytest
from controller import ONE, Stubbed

FIELD = {"vault_field_encryption_key": "first-field-key"}
# It reads what it is given to its end, as `senex manage` does; who ends before breaks the pipe under whoever writes
MANAGE = '["sh", "-c", "exec cat > /dev/null"]'
REENCRYPT = ["-e", f'{{"rotate_reencrypt_command": ["reencrypt"], "__rotate_manage": {MANAGE}}}']
# The tasks of a restore, which only say that they were there
SAY = """- name: Say that it was here
  ansible.builtin.shell: echo "{{ inventory_hostname }} NAME" >> "{{ stub_log }}"
  changed_when: false
"""
PLAN = """- name: Leave a plan
  ansible.builtin.set_fact:
    pitr_restore_moment: "{{ restore_to }}"
    pitr_restore: "{{ {'id': 'restore-1', 'rest_first': false, 'afterwards': 'done'} if restore_confirm | default(false) | bool else {} }}"
"""
RESTORE = ["-e", "restore_from=pitr", "-e", "restore_confirm=true"]


@pytest.fixture(scope="module")
def rotated(tmp_path_factory):
    """An environment whose key was replaced."""
    stack = Stubbed(tmp_path_factory.mktemp("keys"), ONE, FIELD)
    for role, names in {
        "pitr": ["restore_prepare", "restore_switch", "restore_finish"],
        "backup": ["application_stop", "application_start", "restore_queue"],
    }.items():
        for name in names:
            (stack.tree / f"roles/{role}/tasks/{name}.yml").write_text(SAY.replace("NAME", name))
    with (stack.tree / "roles/backup/tasks/application_stop.yml").open("a") as handle:
        handle.write("- ansible.builtin.set_fact:\n    backup_stopped_units: [web-1.service]\n")
    (stack.tree / "roles/pitr/tasks/restore_plan.yml").write_text(PLAN)
    assert stack.rotate("field_encryption_key", words=REENCRYPT).returncode == 0, stack.said
    return stack


def kept(stack):
    return [one["key"] for one in stack.secrets()["vault_retired_keys"]]


def test_the_vault_keeps_it_and_nothing_shows_it(rotated):
    after = rotated.secrets()
    assert kept(rotated) == ["first-field-key"] and "vault_rotation" not in after and after["vault_field_encryption_key"] != "first-field-key"
    assert rotated.play("rotate.yml").returncode == 0
    assert "kept for older copies: the keys in use until 20" in rotated.said and "first-field-key" not in rotated.said


def test_a_restore_to_before_it_does_not_begin_without_it(rotated):
    rotated.log.unlink()
    refused = rotated.play("restore.yml", *RESTORE, "-e", "restore_to='2020-01-01 00:00:00+00'")
    assert refused.returncode != 0 and "which is not read now" in rotated.said and "rotate_retired=true" in rotated.said
    assert "first-field-key" not in rotated.said and rotated.visits() == []
    assert rotated.play("restore.yml", "-e", "restore_from=pitr", "-e", "restore_to='2020-01-01 00:00:00+00'").returncode == 0, rotated.said
    assert "Keys of that moment:" in rotated.said, "a plan shows them"


@pytest.mark.faults
def test_it_reads_again_and_then_the_restore_goes_on_and_it_ends(rotated):
    rotated.log.unlink(missing_ok=True)
    assert rotated.rotate("field_encryption_key", words=[*REENCRYPT, "-e", "rotate_retired=true"]).returncode == 0, rotated.said
    assert rotated.secrets()["vault_rotation"]["field_encryption_key"]["stage"] == "use"
    assert rotated.visits() == ["one use django", "one use celery"]
    rotated.log.unlink()
    assert rotated.play("restore.yml", *RESTORE, "-e", "restore_to='2020-01-01 00:00:00+00'").returncode == 0, rotated.said
    visits = [line.split()[-1] for line in rotated.visits()]
    assert visits.index("restore_switch") < visits.index("postgresql") < visits.index("application_start"), "the password of now, before anything logs in"
    assert rotated.rotate("field_encryption_key", words=REENCRYPT).returncode == 0, rotated.said
    after = rotated.secrets()
    assert "vault_rotation" not in after and kept(rotated) == ["first-field-key"]


@pytest.mark.faults
@pytest.mark.parametrize(
    "more", [["-e", "restore_to='2099-01-01 00:00:00+00'"], ["-e", "restore_to='2020-01-01 00:00:00+00'", "-e", "restore_without_keys=true"]]
)
def test_what_needs_no_former_key_or_is_to_go_without_begins(rotated, more):
    assert rotated.play("restore.yml", *RESTORE, *more).returncode == 0, rotated.said


def test_what_has_no_former_value_is_refused_before_anything(tmp_path):
    stack = Stubbed(tmp_path, ONE, {**FIELD, "vault_redis_password": "old-redis-password"})
    before = stack.vault.read_bytes()
    for name in ("field_encryption_key", "redis_password"):
        assert stack.rotate(name, words=[*REENCRYPT, "-e", "rotate_retired=true"]).returncode != 0
        assert f"rotate_retired: the vault has no former value of {name}" in stack.said
    assert stack.vault.read_bytes() == before and stack.visits() == []

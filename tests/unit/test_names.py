"""Words that the code has given up; docs/developer/glossary.md says which it uses."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.senex.trader.plugins.module_utils.engine import payload, unchanged
from ansible_collections.senex.trader.plugins.plugin_utils.rendering import KEYS

ROOT = Path(__file__).parents[2]
# Options of modules and keys of their lists -> what they are called now
ARGUMENTS = {
    "alone": "exclusive",
    "answers": "readiness_probe",
    "below": "status_below",
    "beside": "concurrent_components",
    "beside_at_once": "concurrent_start",
    "guards": "preconditions",
    "hold": "render_only or request_hold",
    "inside": "post_start_exec",
    "live": "no_restart_on_change",
    "meanwhile": "parallel_with_previous",
    "more": "also_start",
    "notice": "pre_stop_hook",
    "part": "component",
    "parts": "components",
    "probe": "traffic_gate or traffic_probe",
    "rotation": "load_balancer",
    "stand_in": "surge_unit",
}
# Variables, modules, filters and functions
NAMES = {
    "Glance": "HostSnapshot",
    "__backup_rested": "__backup_stopped",
    "__look_ahead": "__validate_ahead",
    "__look_applied": "__validate_applied",
    "__look_begin": "__validate_begin_variables",
    "__look_gone": "__validate_missing_data",
    "__look_key": "__validate_key",
    "__look_parts": "__validate_components",
    "__look_places": "__validate_data_directories",
    "__look_told": "__validate_begun_anew",
    "__look_wanted": "__validate_wanted",
    "__operation_lease": "__operation_lock_lease",
    "__parts_groups": "__component_groups",
    "__parts_here": "__components_on_host",
    "__postgresql_stand_in": "__postgresql_rotation_role",
    "__postgresql_stand_in_password": "__postgresql_rotation_role_password",
    "__redis_look": "__redis_host_snapshot",
    "__release_application": "__release_application_hosts",
    "__release_asked": "__release_probe_target",
    "__release_awaited": "__release_awaited_host",
    "__release_between": "__release_newer_records",
    "__release_busy": "__release_lock_refusals",
    "__release_everyone": "__release_all_hosts",
    "__release_idle": "__release_already_deployed",
    "__release_lease": "__release_lock_lease",
    "__release_leaves_database": "__release_no_database_changes",
    "__release_missed": "__release_missing_record",
    "__release_perhaps": "__release_optional_path",
    "__release_seen": "__release_probe_results",
    "__release_soon": "__release_tasks_due_soon",
    "__release_strange": "__release_bad_migration_names",
    "__release_told": "__release_reports",
    "__release_workers_beside": "__release_workers_concurrent",
    "__rotate_asked": "__rotate_prompted",
    "__rotate_given": "__rotate_supplied",
    "__rotate_now": "__rotate_current_stage",
    "__rotate_parts": "__rotate_components",
    "__secrets_given": "__secrets_operator_supplied",
    "__secrets_given_usually": "__secrets_operator_supplied_usually",
    "__upgrade_rests": "__upgrade_stops_application",
    "backup_rests": "backup_stopped_units",
    "backup_rests_stop": "backup_stop_now",
    "backup_rests_too": "backup_also_start",
    "celery_deploy_lock": "__celery_deploy_lock",
    "celery_hold": "__celery_render_only",
    "celery_lease": "__celery_deploy_lock",
    "celery_render_only": "__celery_render_only",
    "checksums_rested": "checksums_downtime_seconds",
    "checksums_rests_since": "checksums_downtime_since",
    "django_beside": "__django_concurrent_components",
    "django_concurrent_components": "__django_concurrent_components",
    "django_deploy_lock": "__django_deploy_lock",
    "django_lease": "__django_deploy_lock",
    "django_probe": "__django_traffic_gate",
    "django_proven": "__django_skip_first_instance_gate",
    "django_skip_first_instance_gate": "__django_skip_first_instance_gate",
    "django_traffic_gate": "__django_traffic_gate",
    "is_kept": "is_applied",
    "keepable": "is_cacheable",
    "kept_key": "field_key",
    "look_alone": "validate_exclusive",
    "look_at_parts": "validate_snapshot",
    "look_at_releases": "validate_release_history",
    "look_data": "validate_data",
    "look_parts": "validate_components",
    "look_upgrade": "validate_for_upgrade",
    "pg_exchange": "cluster_swap",
    "prober_unit": "traffic_probe_unit",
    "release_had": "release_all_locked",
    "release_not_back": "release_rollback_error",
    "release_returned": "release_rolled_back",
    "release_seen": "release_probe_results",
    "release_skips": "release_skipped_stages",
    "release_touched": "release_changed",
    "release_tried": "release_lock_attempt",
    "rotate_asked": "rotate_prompted",
    "rotate_given": "rotate_supplied",
    "rotate_go": "rotate_begins",
    "rotate_now": "rotate_current_stage",
    "rotate_parts": "rotate_components",
    "rotate_said": "rotate_summary",
    "rotate_wanted": "rotate_expected",
    "senex.trader.apart": "senex.trader.nesting_problems",
    "senex.trader.below": "senex.trader.minimum_problems",
    "senex.trader.no_networks": "senex.trader.network_problems",
    "senex.trader.no_places": "senex.trader.relative_path_problems",
    "senex.trader.no_times": "senex.trader.schedule_problems",
    "senex.trader.prober": "senex.trader.traffic_probe",
    "senex.trader.rotation": "senex.trader.nginx_upstream",
    "senex.trader.unlike": "senex.trader.form_problems",
    "senex_at_work": "senex_run_lock",
    "senex_database_stand_in": "senex_database_uses_rotation_role",
    "senex_environment_guards": "senex_environment_preconditions",
    "senex_look": "senex_host_snapshot",
    "senex_moved": "senex_components_changed",
    "senex_other_secrets": "senex_alternate_secrets",
    "senex_redis_login": "senex_redis_client_password",
    "upgrade_rested": "upgrade_downtime_seconds",
    "upgrade_rests_since": "upgrade_downtime_since",
    "whole_groups": "required_groups",
    "whole_shows": "required_confirmation",
    "works_hard": "is_cpu_bound",
}
# Names of tasks that do not say what is done
TASKS = (
    "Look before the first change",
    "Remember what went wrong",
    "Keep the reason",
    "End as it went",
    "Stop it",
    "Remember it",
    "Release it",
    "Switch",
    "Say what is where",
    "Confirm it",
    "Start it",
    "Keep it",
    "Let it rest",
)
SILENT = {"CHANGELOG.md", "docs/developer/glossary.md", "plugins/plugin_utils/former_inputs.yml", "docs/user/variables.md"}  # of former inputs
SEARCHED = ("plugins/**/*.py", "plugins/**/*.yml", "roles/**/*", "playbooks/**/*", "templates/**/*", "molecule/**/*", "docs/**/*.md", "README.md")


def documented(path):
    """Options of a module, as ansible-doc shows them."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "DOCUMENTATION":
            return set(yaml.safe_load(node.value.value).get("options") or {})
    return set()


def calls(node):
    """Arguments of each task that calls a module of the collection."""
    if isinstance(node, list):
        for item in node:
            yield from calls(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if str(key).startswith("senex.trader.") and isinstance(value, dict):
                yield value
            yield from calls(value)


def named(node):
    """Names of plays, blocks and tasks."""
    if isinstance(node, list):
        for item in node:
            yield from named(item)
    elif isinstance(node, dict):
        yield from [node["name"]] if isinstance(node.get("name"), str) else []
        for key in ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always"):
            yield from named(node.get(key))


def playbooks():
    return [*ROOT.glob("playbooks/**/*.yml"), *ROOT.glob("roles/*/tasks/*.yml")]


def former(found):
    return [f"{word} is {ARGUMENTS[word]} now" for word in sorted(set(found) & set(ARGUMENTS))]


@pytest.mark.parametrize("path", sorted(ROOT.glob("plugins/modules/*.py")), ids=lambda path: path.stem)
def test_no_module_has_an_option_of_a_former_name(path):
    assert former(documented(path)) == []


def test_no_list_of_the_engine_has_a_key_of_a_former_name():
    assert former(word for words in KEYS.values() for word in words) == []


def test_no_task_gives_an_argument_of_a_former_name():
    seen, found = 0, []
    for path in playbooks():
        for arguments in calls(yaml.safe_load(path.read_text())):
            seen += 1
            words = [*arguments, *(key for value in arguments.values() if isinstance(value, list) for item in value if isinstance(item, dict) for key in item)]
            found += [f"{path.relative_to(ROOT)}: {line}" for line in former(words)]
    assert seen > 40 and found == []


def test_no_former_name_is_left():
    words = re.compile(r"(?<![\w.])(" + "|".join(map(re.escape, sorted(NAMES, key=len, reverse=True))) + r")(?![\w])")
    found = []
    for path in sorted({path for pattern in SEARCHED for path in ROOT.glob(pattern) if path.is_file()}):
        name = str(path.relative_to(ROOT))
        if name not in SILENT and path.suffix in (".py", ".yml", ".j2", ".md", ".sh", ".json"):
            found += [f"{name}: {word} is {NAMES[word]} now" for word in sorted(set(words.findall(path.read_text(errors="replace"))))]
    assert found == []


def test_the_name_of_a_task_says_what_is_done():
    found = [f"{path.relative_to(ROOT)}: {name}" for path in playbooks() for name in named(yaml.safe_load(path.read_text())) if name in TASKS]
    assert found == []


def test_what_an_earlier_version_saved_of_a_component_makes_it_one_that_has_changed(tmp_path):
    """Its words were others; the next run compares the whole component with the host, as it does where nothing is saved."""
    data = {"component": "web", "state": "present", "files": [], "directories": [], "secrets": [], "units": [], "user": "nobody.here", "home": "/nowhere"}
    saved = {**data, "part": "web", "guards": [], "image_input": "", "lease": {}}
    saved.pop("component", None)
    saved["part"] = "web"
    (tmp_path / "web.last").write_text(json.dumps({"digest": "of then", "data": saved}))
    assert unchanged.unchanged_components(str(tmp_path)) == {} and not payload.is_applied(data, str(tmp_path))

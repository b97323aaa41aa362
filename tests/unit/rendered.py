"""Roles' templates through the real rendering code, with their own defaults, without a host."""

import base64
import functools
import importlib.util
import os
import pathlib
from unittest import mock

import jinja2
import yaml
from ansible._internal._templating import _jinja_bits
from ansible._internal._templating._jinja_bits import _TemplateCompileContext
from ansible._internal._templating._utils import TemplateContext
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.task import Task
from ansible.plugins.loader import filter_loader, test_loader
from ansible.template import Templar, trust_as_template
from ansible_collections.senex.trader.plugins.plugin_utils.components import registry
from ansible_collections.senex.trader.plugins.plugin_utils.rendering import RenderingAction, known

ROOT = pathlib.Path(__file__).parents[2]
ROLES = ROOT / "roles"
if "SENEX_LAB_DIR" in os.environ:  # what an earlier run of the tests compiled, or one of Ansible in them, is used again
    found = importlib.util.spec_from_file_location("senex_cheaper", ROOT / "tests/plugins/callback/senex_cheaper.py")
    cheaper = importlib.util.module_from_spec(found)
    found.loader.exec_module(cheaper)
    cheaper.remember_templates(pathlib.Path(os.environ["SENEX_LAB_DIR"], "templates"), ROOT)
COMPILE, COMPILED = jinja2.Environment.compile, {}
LAYERS = getattr(_jinja_bits, "_flatten_and_lazify_vars", None)  # of another version of Ansible not, and then there is nothing to share
SYNTAX = ("trim_blocks", "lstrip_blocks", "keep_trailing_newline", "newline_sequence", "block_start_string", "variable_start_string", "comment_start_string")


def compiled(environment, source, *words, **options):
    """Ansible compiles every expression each time that it meets it, which is most of what rendering costs."""
    if not isinstance(source, str):
        return COMPILE(environment, source, *words, **options)
    context = _TemplateCompileContext.current(optional=True)
    syntax = tuple(getattr(environment, name) for name in SYNTAX)
    key = (type(environment), source, words, tuple(options.items()), syntax, context and context.escape_backslashes)
    if key not in COMPILED:
        COMPILED[key] = COMPILE(environment, source, *words, **options)
    return COMPILED[key]


jinja2.Environment.compile = compiled
# It also looks for each filter and test anew for each template
for loader in (filter_loader, test_loader):
    loader.get = functools.cache(loader.get)


def layers(mapping):
    """Ansible wraps all variables anew for each expression, and renders each as often as it is met: half of what is left. Here once for each templar."""
    if type(mapping) is not dict:
        return LAYERS(mapping)
    templar = TemplateContext.current().templar
    kept = templar.__dict__.setdefault("_kept_layers", {})
    found = kept.get(id(mapping))
    if found is None or found[1]._templar is not templar or len(found[0]) != found[2]:  # of the one that this was copied from; or more was added
        made = list(LAYERS(mapping))
        if not made:
            return made
        # What is wrapped is kept too, for its address must not be another one's
        found = kept[id(mapping)] = (mapping, made[0], len(mapping))
    return [found[1]]


_jinja_bits._flatten_and_lazify_vars = layers


@functools.cache
def loaded(path):
    """What a YAML file says; not to be changed, for the next one gets the same."""
    return (yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if path.exists() else None) or {}  # noqa: S506  (safe)


def trusted(value):
    if isinstance(value, dict):
        return {key: trusted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [trusted(item) for item in value]
    return trust_as_template(value) if isinstance(value, str) else value


class Renderer(RenderingAction):
    """Renders, and does nothing else."""

    def run(self, tmp=None, task_vars=None):
        raise NotImplementedError


def action(kind, arguments, variables, role):
    """An action plugin as a task of this role would have it."""
    loader = DataLoader()
    task = Task()
    task.args = arguments
    templar = Templar(loader=loader, variables=variables)
    context = mock.MagicMock(check_mode=False)
    plugin = kind(task=task, connection=mock.MagicMock(), play_context=context, loader=loader, templar=templar, shared_loader_obj=None)
    plugin._find_needle = lambda directory, name: str(role / directory / name) if (role / directory / name).exists() else missing(name)
    return plugin


def missing(name):
    from ansible.errors import AnsibleError

    raise AnsibleError(f"no file {name}")


@functools.cache
def _of_role(role):
    merged = {}
    for name in ("senex", role):
        for kind in ("defaults", "vars"):
            merged |= loaded(ROLES / name / kind / "main.yml")
    return trusted(merged)


def variables(role, **inputs):
    own = registry()[role].groups if role in registry() and registry()[role].image else {}
    groups = {name: ["one"] for name in ("postgresql", "redis", "web", "celery", "celery_beat", "nginx", *own)}
    facts = {"memtotal_mb": 7940, "default_ipv4": {"address": "10.0.0.5"}, "distribution": "Debian", "distribution_version": "13",
             "ansible_local": {"senex": {"packages": [], "users": {}, "linger": [], "user_manager": {}}}}  # fmt: skip
    inventory = {"inventory_hostname": "one", "groups": groups, "group_names": sorted(groups), "hostvars": {}, "ansible_facts": facts,
                 "ansible_check_mode": False, "role_path": str(ROLES / role),
                 "senex_image": "shop", "senex_django_settings_module": "shop.settings.production"}  # fmt: skip
    return _of_role(role) | trusted(inventory | inputs)


def component(role, name=None, /, **inputs):
    """{dest: (text, item)} of every file that a role hands to the engine (for the part of this name, or the last), and the task's other arguments."""
    values = variables(role, **inputs)
    tasks = loaded(ROLES / role / "tasks" / "main.yml")
    tasks = [inner for task in tasks for inner in task.get("block", [task])]
    *_, task = [found for task in tasks if (found := task.get("senex.trader.quadlet")) and name in (None, found["component"])]
    templar = Templar(loader=DataLoader(), variables=values)
    arguments = {key: templar.template(trusted(value)) for key, value in task.items() if key in ("files", "units", "directories", "secrets")}
    for kind, items in arguments.items():
        known(kind, items)
    plugin = action(Renderer, {}, values, ROLES / role)
    found = plugin.rendered(arguments["files"], values)
    return {item["dest"]: (base64.b64decode(item["content"]).decode(), item) for item in found}, arguments


def value(role, name, **inputs):
    """One variable of a role, as its tasks see it."""
    return Templar(loader=DataLoader(), variables=variables(role, **inputs)).template(trust_as_template("{{ " + name + " }}"))

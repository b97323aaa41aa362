"""A fact that several places need is written in one of them; the others are told.

Each row has the form of the fact, and the files that may have it. Texts that explain (argument specifications, documentation of modules) may name it too.
"""

import re

import pytest
from controller import ROOT

# Programs of the watchdog are handed their facts
LATER = ("roles/watchdog/files/",)
EXPLAINS = ("meta/argument_specs.yml", "README.md")
OWNERS = {
    # the registry of components and what it replaced
    r"(share|8GB).{0,20}\b2048": ["roles/senex/vars/components.yml"],
    r"\bat_most_one\b.{0,30}celery_beat|celery_beat: at_most_one": ["roles/senex/vars/components.yml"],
    r"postgresql[:, '\"]+redis[:, '\"]+web[:, '\"]+celery[:, '\"]+celery_beat[:, '\"]+nginx": [],
    # what a host must have
    r"\b1792\b": ["plugins/filter/sizing.py"],
    # nginx: its contract file says the rest; nginx_upstream.py knows how an earlier version had it
    r"/run/senex\.trader/out\b": ["plugins/module_utils/nginx/nginx_upstream.py", "roles/nginx/vars/main.yml"],
    r"/etc/nginx/conf\.d/senex-maps\.conf": ["plugins/module_utils/nginx/nginx_upstream.py", "roles/nginx/vars/main.yml"],
    r"/run/senex\.trader/hold\b": ["roles/nginx/vars/main.yml"],
    # releases; the fact script runs alone on the host
    r"\bdeploy\.lock\b": ["plugins/module_utils/host/host_layout.py"],
    r"\breleases\.jsonl\b": ["plugins/module_utils/host/host_layout.py", "roles/common/files/senex_fact.py"],
    r"\bprober\.json\b": ["plugins/module_utils/release/traffic_probe_unit.py", "playbooks/release/web.yml"],
    # places of data; owned.py has those that root makes before there are variables
    r"(?<![\w/])data/postgres\b": ["plugins/module_utils/host/owned.py", "roles/senex/defaults/main.yml"],
    r"(?<!/)\brun/postgresql\b": ["roles/senex/defaults/main.yml"],
    r"archive_role: barman": ["roles/senex/defaults/main.yml"],
    # the application's health
    r"(: |default\(')/health/(simple/)?(?=['\" ]|$)": ["roles/senex/defaults/main.yml"],
    r"max_silence: \d": ["roles/senex/defaults/main.yml"],
    # how a command becomes the service user's; a script on the host asks from there
    r"systemd-run[\", ]+--user[\", ]+--machine=\{\{": ["roles/redis/templates/before.sh.j2", "roles/senex/vars/main.yml"],
    r"\brunuser, --user": ["roles/senex/vars/main.yml"],
    # rules of names
    r"a-z0-9-\]\{0,61\}": ["plugins/filter/checking.py"],
    r"your-\?\(own": ["plugins/filter/checking.py"],
    # versions
    r"^(VERSION|__common_facts_version)(:| =) \d": ["plugins/module_utils/nginx/nginx_upstream.py", "roles/common/files/senex_fact.py"],
}


def sources():
    for place in ("plugins", "roles", "playbooks", "templates"):
        for path in sorted((ROOT / place).rglob("*")):
            name = str(path.relative_to(ROOT))
            if path.suffix in (".py", ".yml", ".j2", ".sh") and not name.startswith(LATER) and not name.endswith(EXPLAINS):
                yield name, path.read_text(encoding="utf-8")


def bare(name, text):
    """Without what only explains: comments, and the documentation of plugins."""
    if name.endswith(".py"):
        text = re.sub(r'^(DOCUMENTATION|EXAMPLES|RETURN) = r?"""(.|\n)*?^"""', "", text, flags=re.MULTILINE)
    elif re.match(r"plugins/(filter|lookup)/", name):
        return ""
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def texts():
    return {name: bare(name, text) for name, text in sources()}


@pytest.mark.parametrize("fact", OWNERS)
def test_a_fact_has_one_owner(fact, texts):
    found = [name for name, text in texts.items() if re.search(fact, text, flags=re.MULTILINE)]
    assert found == OWNERS[fact], f"{fact}: written by hand in {', '.join(found)}"


def test_the_least_that_a_host_may_be_asked_for_is_not_below_what_can_be_planned():
    from ansible_collections.senex.trader.plugins.filter.sizing import MINIMUM_RAM_MB
    from rendered import ROLES, loaded

    assert loaded(ROLES / "common/defaults/main.yml")["common_min_memory_mb"] >= MINIMUM_RAM_MB

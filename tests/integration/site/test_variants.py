"""Units that other inputs would produce, before this host's own generator and systemd: what test_rendered_units.py checks by the key tables."""

import json
import subprocess
import sys

from ansible.plugins.loader import init_plugin_loader
from stack import ROOT

sys.path.insert(0, str(ROOT / "tests" / "unit"))
init_plugin_loader([str(ROOT)])  # makes the collection importable

from test_rendered_units import VARIANTS, units_of  # noqa: E402  (the path above must come first)

# The engine's own check, with no more of the collection than it needs
CHECK = """
import json, pathlib, sys, tempfile
data = json.load(sys.stdin)
sys.dont_write_bytecode = True
with tempfile.TemporaryDirectory() as place:
    for name, text in data["code"].items():
        path = pathlib.Path(place, "ansible_collections/senex/trader/plugins/module_utils", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    sys.path.insert(0, place)
    from ansible_collections.senex.trader.plugins.module_utils.engine import quadlet_check
    from ansible_collections.senex.trader.plugins.module_utils.host import service_user
    user = service_user.ServiceUser("senex", "/opt/senex-trader")
    print(json.dumps({name: quadlet_check.problems(user, units, user.podman_version()) for name, units in data["variants"].items()}))
"""


def test_every_variant_passes_the_checks_of_this_host(stack):
    """Each of the sets whole; and one broken on purpose, so that a check that says nothing would be seen."""
    variants = {name: units_of(inputs) for name, inputs in VARIANTS.items()}
    broken = {name: text.replace("Image=", "Imago=") for name, text in variants["defaults"].items()}
    place = ROOT / "plugins" / "module_utils"
    code = {str(path.relative_to(place)): path.read_text(encoding="utf-8") for path in place.glob("**/*.py")}
    data = json.dumps({"code": code, "variants": {**variants, "broken": broken}})
    command = stack.ssh_command("python3 -c " + "\"$(cat <<'END'\n" + CHECK + '\nEND\n)"')
    done = subprocess.run(command, input=data, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found.pop("broken")
    assert {name: lines for name, lines in found.items() if lines} == {}
    assert all("web-1.container" in units and "postgres.container" in units for units in variants.values())

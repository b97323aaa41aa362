"""The figures of docs/figures.json: each is the median of its runs, beside its target."""

import json
import os
import platform
import statistics
import time

from stack import ROOT

PLACE = ROOT / "docs" / "figures.json"


def machine():
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{platform.system()}, {os.cpu_count()} cores, {memory:.0f} GiB, which run host, controller and load together"


def keep(name, values, target, command, unit="s"):
    """The median into docs/figures.json; failures count by their worst run."""
    value = max(values) if unit == "requests" else round(statistics.median(values), 1)
    found = json.loads(PLACE.read_text(encoding="utf-8")) if PLACE.exists() else {}
    found[name] = {
        "value": value, "unit": unit, "target": target, "met": value <= target, "runs": len(values), "command": command,
        "date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": machine(),
    }  # fmt: skip
    PLACE.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{name}: {value} {unit} ({', '.join(str(round(one, 1)) for one in values)}), target {target}")

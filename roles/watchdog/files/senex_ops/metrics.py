"""What the watchdog knows as figures, in a file that the exporter of the host shows (its collector textfile)."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable

from senex_host import files, release_history, untrusted
from senex_host.host_layout import RELEASES

from .findings import RANK, Finding, Sample, is_number, worst

FILE = "senex.prom"
MOST = 500  # lines of one name: a name may come from what the service user can write
ESTABLISHED = "01"
END = 1 << 16  # bytes of the records that are looked at


def label(text: object) -> str:
    """As the format has it."""
    plain = untrusted.plain(str(text), 200)
    return plain.replace("\\", "\\\\").replace('"', '\\"')


def lines(samples: Iterable[Sample]) -> str:
    """The text of the file: each name with its lines together, each set of labels once."""
    names: dict[str, dict[str, float]] = {}
    for one in samples:
        if isinstance(one.value, bool) or is_number(one.value):
            labels = ",".join(f'{name}="{label(text)}"' for name, text in one.labels.items())
            names.setdefault(one.name, {})[f"{{{labels}}}" if labels else ""] = float(one.value)
    found = []
    for name, rows in sorted(names.items()):
        found.append(f"# TYPE senex_{name} gauge")
        found += [f"senex_{name}{labels} {value:.15g}" for labels, value in list(rows.items())[:MOST]]
    return "\n".join(found) + "\n"


def of_checks(findings: dict[str, list[Finding]]) -> list[Sample]:
    """How each check stands: 0 good, 1 a warning, 2 trouble."""
    return [Sample("check", RANK[worst(found)], {"check": name}) for name, found in sorted(findings.items())]


def connections(web, table: str = "/proc/net/tcp") -> list[Sample]:
    """Connections that are open to each web instance at its port on this host, WebSockets and others."""
    if not web:
        return []
    found = {one.port: 0 for one in web.instances}
    with open(table, encoding="ascii") as handle:
        for line in handle:
            words = line.split()
            port = words[1].rpartition(":")[2] if len(words) > 3 else ""
            if words[3:4] == [ESTABLISHED] and int(port, 16) in found:
                found[int(port, 16)] += 1
    return [Sample("web_connections", found[one.port], {"unit": one.unit.removesuffix(".service")}) for one in web.instances]


def last_release(path: str = RELEASES) -> list[Sample]:
    """Whether the newest release succeeded; a line that a loss of power cut short is none."""
    with contextlib.suppress(OSError), open(path, "rb") as handle:
        handle.seek(max(0, os.fstat(handle.fileno()).st_size - END))
        for line in reversed(handle.read().split(b"\n")):
            with contextlib.suppress(ValueError, RecursionError):
                record = json.loads(line)
                if isinstance(record, dict) and record.get("kind") in release_history.SERVED:
                    return [Sample("release_last_ok", record.get("result") == "succeeded")]
    return []


def write(directory: str, samples: Iterable[Sample]) -> None:
    """In the place of the one before."""
    files.replace(f"{directory}/{FILE}", lines(samples), 0o644, durable=False)

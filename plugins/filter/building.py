# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""What roles hand to the engine, where it is more than a list that can be written down: files, units, servers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2.filters import do_int as whole

CONTRACT = "/etc/nginx/senex/upstream.json"


def chosen(groups: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What the groups that are wanted have in `use`, in their order. One without `when` is wanted."""
    return [item for group in groups if group.get("when", True) for item in group["use"]]


def home_directories(modes: Mapping[str, str], home: str, owner: str) -> list[dict[str, str]]:
    """Directories of the owner's below a home, as senex.trader.system_files takes them; an empty path is the home itself."""
    return [{"path": f"{home}/{path}".rstrip("/"), "owner": owner, "group": owner, "mode": mode} for path, mode in modes.items()]


def worker_pools(workers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each worker by a name of its own: the first of a pool has the pool's."""
    return [
        {**pool, "name": pool["name"] if number == 1 else f"{pool['name']}-{number}"}
        for pool in workers
        for number in range(1, whole(pool.get("instances", 1)) + 1)
    ]


def worker_files(pools: Sequence[Mapping[str, Any]], surge: bool) -> list[dict[str, Any]]:
    """A unit for each worker, and one for its stand-in while it restarts."""
    names = [(name, pool) for pool in pools for name in (pool["name"], *([f"{pool['name']}-next"] if surge else []))]
    return [
        {"src": "celery-worker.container.j2", "dest": f"{name}.container", "vars": {"__celery_pool": dict(pool), "__celery_name": name}} for name, pool in names
    ]


def worker_units(pools: Sequence[Mapping[str, Any]], surge: bool) -> list[dict[str, Any]]:
    return [{"name": f"{pool['name']}.service", **({"surge_unit": f"{pool['name']}-next.service"} if surge else {})} for pool in pools]


def web_files(instances: int) -> list[dict[str, Any]]:
    """One file an instance rather than a template unit: Podman 4.9 knows no template units."""
    return [{"src": "web.container.j2", "dest": f"web-{number}.container", "vars": {"__django_number": number}} for number in range(1, whole(instances) + 1)]


def web_units(web: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The instances in the order in which they restart, each with what shows that it is ready, and how nginx of this host is told.

    `web` has `instances`, `address`, `base_port`, `domain`, `ready_path`, `smoke_paths`, `load_balanced`, `drain`, `pre_stop_hook` (the name of the instance
    goes behind its second word), `traffic_gate` and `skip_first_gate`.
    """
    units = []
    for number in range(1, whole(web["instances"]) + 1):
        server = f"{web['address']}:{whole(web['base_port']) + number - 1}"
        ask = {"headers": {"Host": web["domain"], "X-Forwarded-Proto": "https"}}
        probes = [{**ask, "url": f"http://{server}{web['ready_path']}"}]
        probes += [{**ask, "url": f"http://{server}{path}", "status_below": 500, "startup_only": True} for path in web["smoke_paths"]]
        unit: dict[str, Any] = {"name": f"web-{number}.service", "readiness_probe": probes}
        if web["load_balanced"]:
            hook = [*web["pre_stop_hook"][:2], f"web-{number}", *web["pre_stop_hook"][2:]]
            unit["load_balancer"] = {"contract": CONTRACT, "server": server, "drain": whole(web["drain"]), "pre_stop_hook": hook}
        if web["traffic_gate"]:
            unit["traffic_gate"] = web["traffic_gate"]
        if web["skip_first_gate"] and number == 1:
            unit["parallel_with_previous"] = True
        units.append(unit)
    return units


def _of_host(variables: Any, host: str, names: Sequence[str], otherwise: Any) -> Any:
    """The first of these variables that a host has, which need not be one of the inventory."""
    if host not in variables:  # get() of Ansible's own mapping of hosts knows no strangers
        return otherwise
    there = variables[host]
    return next((there[name] for name in names if name in there), otherwise)


def web_servers(hosts: Sequence[str], variables: Any, here: str, loopback: bool, instances: int, base_port: int) -> list[str]:
    """Where nginx finds the application. Those of several hosts in turn.

    A second try goes to the next one, and that is not to be another instance of a host that is off.
    """
    found = []
    for turn, host in enumerate(hosts, 1):
        local = host == here
        address = "127.0.0.1" if local and loopback else _of_host(variables, host, ("senex_private_address", "ansible_host"), host)
        own = instances if local else _of_host(variables, host, ("senex_web_instances",), instances)
        found += [(number, turn, f"{address}:{whole(base_port) + number}") for number in range(whole(own))]
    return [server for _number, _turn, server in sorted(found)]


def program_files(names: Sequence[str], src: str, dest: str, notify: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """A file for each name, which takes the place of `%s`. `notify`: the handlers that a change of one calls."""
    more = {} if notify is None else {"notify": list(notify)}
    return [{"src": src.replace("%s", name), "dest": dest.replace("%s", name), **more} for name in names]


def backup_job_files(jobs: Sequence[str]) -> list[dict[str, Any]]:
    return [{"src": f"backup.{kind}.j2", "dest": f"backup-{job}.{kind}", "vars": {"__backup_job": job}} for job in jobs for kind in ("service", "timer")]


def backup_job_units(jobs: Sequence[str]) -> list[dict[str, str]]:
    return [{"name": f"backup-{job}.timer"} for job in jobs]


def job_ages(jobs: Sequence[str], ages: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """How old the last success of each job may be, in seconds."""
    return {job: {"max_age": whole(ages[job])} for job in jobs}


def registered_jobs(copying: Sequence[Mapping[str, Any]], overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of the jobs that copy data of components those whose role has no inputs for them: as role backup has its own."""
    other = {job: given for job, given in overrides.items() if isinstance(given, Mapping)}  # the check of the inputs names what is none
    jobs = {one["job"]: {**one, **other.get(one["job"], {}), "command": one["job"]} for one in copying if one["schedule"]}
    return {
        "jobs": {job: {key: one[key] for key in ("what", "schedule", "command", "after")} for job, one in jobs.items()},
        "retention": {job: {"days": whole(one["days"])} for job, one in jobs.items()},
        "ages": {job: one["max_age"] for job, one in jobs.items()},
    }


def copy_directories(names: Sequence[str], data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where copies lie, below backups; without a name that directory itself. Each has a note of its own."""
    return [
        {"path": f"backups{name and '/' + name}", "mode": "0700", "data": {**data, "witness": f"config/backup/place{name and '-' + name}"}} for name in names
    ]


def module_names(paths: Sequence[str]) -> list[str]:
    """Of the files of a program, in order."""
    return sorted(path.rpartition("/")[2].removesuffix(".py") for path in paths)


def one_file(text: str, modules: Mapping[str, str]) -> str:
    """A program with the text of its modules in the place of the first import of each, for where it has to be a single file."""
    there: set[str] = set()

    def whole_of(part: str) -> str:
        found = []
        for line in part.split("\n"):
            imported = re.match(r"(?:import|from) \.?(\w+)\b", line)
            if not imported or imported[1] not in modules:
                found.append(line)
            elif imported[1] not in there:
                there.add(imported[1])
                found.append(whole_of(modules[imported[1]]))
        return "\n".join(found)

    return whole_of(text)


def web_instances(units: Sequence[str], address: str, base_port: int) -> list[dict[str, Any]]:
    """Where each of these units is asked."""
    return [{"unit": unit, "address": address, "port": whole(base_port) + at} for at, unit in enumerate(units)]


def error_pages(pages: Mapping[Any, Mapping[str, Any]], directory: str) -> list[dict[str, Any]]:
    return [{"src": "page.html.j2", "dest": f"{directory}/{code}.html", "vars": {**page, "code": code}} for code, page in pages.items()]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "chosen": chosen,
            "home_directories": home_directories,
            "worker_pools": worker_pools,
            "worker_files": worker_files,
            "worker_units": worker_units,
            "web_files": web_files,
            "web_units": web_units,
            "web_servers": web_servers,
            "program_files": program_files,
            "backup_job_files": backup_job_files,
            "backup_job_units": backup_job_units,
            "job_ages": job_ages,
            "registered_jobs": registered_jobs,
            "copy_directories": copy_directories,
            "module_names": module_names,
            "one_file": one_file,
            "web_instances": web_instances,
            "error_pages": error_pages,
        }

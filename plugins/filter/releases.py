"""Records of releases for a person, the choice of the one to go back to, and what the hosts of a release have said of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.senex.trader.plugins.filter.checking_forms import form_problems, minimum_problems
from ansible_collections.senex.trader.plugins.module_utils.host import release_history, untrusted

HOOKS = ("release_pre_deploy_tasks", "release_post_deploy_tasks", "release_post_failure_tasks")


def release_lines(records: list, holder: dict | None = None) -> list:
    """A line each, oldest first; last, what is under way."""
    lines = [
        f"{one['id']}  {one['what']}: {one['result']}, {one.get('seconds', '?')} s, by {one['who']}"
        + f", {one.get('failed', 0)} of {one.get('requests', 0)} probes failed"
        + (f", migrations {', '.join(one['migrations'])}" if one.get("migrations") else "")
        + (f", closed {one['closed']} s" if one.get("closed") else "")
        + (f", before it: {one['restore_point_at']}" if one.get("restore_point_at") else "")
        + (f" | {one['reason'].splitlines()[0][:160]}" if one.get("reason") else "")
        for one in records
    ]
    if holder:
        lines.append(f"{holder['id']}  {holder['what']}: under way, at '{holder['step']}', by {holder['who']}")
    # Why one failed may be in the words of others
    return [untrusted.printable(line, 2000) for line in lines] or ["nothing was released with playbooks/deploy.yml yet"]


def newest_records(of_hosts: list) -> list:
    """The records of the host that knows of the newest release that succeeded: one that was added later has none, or not all of them."""
    return max(of_hosts, key=lambda records: (max((one["id"] for one in release_history.succeeded(records)), default=""), len(records)), default=[])


def rollback_target(records: list, wanted: str = "") -> dict:
    """Where to go back to, as release_history.target has it; the command `senex rollback` says the same."""
    try:
        return release_history.target(records, wanted)
    except LookupError as error:
        raise AnsibleFilterError(str(error)) from error


def _said(hostvars: Mapping[str, Any], hosts: list, name: str, default: Any) -> Iterator[tuple[str, Any]]:
    """What each host has as a fact; the default where it has not, for it does not answer or is not in this run."""
    for host in hosts:
        # Ansible's `hostvars` is no dict: what is missing there is no KeyError
        facts = hostvars[host] if host in hostvars else {}  # noqa: SIM401
        yield host, facts[name] if name in facts else default  # noqa: SIM401


def release_reports(hostvars: Mapping[str, Any], hosts: list) -> dict[str, dict]:
    """What each host says of the stages, as operation_troubles and release_end take it."""
    names = {
        "failure": ("release_failure", ""),
        "confirmed": ("release_confirmed", []),
        "touched": ("release_changed", False),
        "back": ("release_rolled_back", False),
        "not_back": ("release_rollback_error", ""),
    }
    found: dict[str, dict] = {host: {} for host in hosts}
    for key, (name, default) in names.items():
        for host, said in _said(hostvars, hosts, name, default):
            found[host][key] = said
    return found


def release_unfinished(hostvars: Mapping[str, Any], hosts: list) -> list[str]:
    """Of whom the lock was not given up, or was another's by then: a line each."""
    left = [host for host, finished in _said(hostvars, hosts, "release_finished", False) if not finished]
    return [line or f"{host}: nothing was recorded, and its lock is left (no answer)" for host, line in _said(hostvars, left, "release_unfinished", "")]


def release_is_deployed(hostvars: Mapping[str, Any], hosts: list, reference: str) -> bool:
    """Whether each of these hosts runs the very image already, by what `begin` answered there."""
    for _host, pulled in _said(hostvars, hosts, "release_pulled", {}):
        running = {name: one for name, one in pulled.get("running", {}).items() if re.match(r"(web|celery)-", name)}
        wanted = [one for name, one in running.items() if not name.endswith("-next")]
        if not running or any(one["image"] != pulled["image"] or one["reference"] != reference for one in wanted):
            return False
    return True


def _newest(hostvars: Mapping[str, Any], hosts: list) -> list[dict]:
    """The newest record of each host that has one, oldest first."""
    records = [(pulled or {}).get("newest") for _host, pulled in _said(hostvars, hosts, "release_pulled", {})]
    return sorted(filter(None, records), key=lambda record: record["id"])


def release_newer_records(hostvars: Mapping[str, Any], hosts: list, known: str = "") -> list[dict]:
    """Releases that ended well after the one of this id, oldest first."""
    return [record for record in _newest(hostvars, hosts) if record["id"] > known]


def release_missing_record(hostvars: Mapping[str, Any], hosts: list, mine: dict | None) -> dict:
    """The record of what runs, where this host lacks it: it was off the network when that release ended, or came later."""
    newest = (_newest(hostvars, hosts) or [{}])[-1]
    return newest if newest.get("id", "") != (mine or {}).get("id", "") else {}


def release_taken_over(hostvars: Mapping[str, Any], hosts: list) -> list[str]:
    """Operations whose locks this release took, for they had ended without a word: a line each. It goes on with releases alone."""
    found = {}
    for name in ("release_first", "release_lock_attempt", "release_pulled"):
        for host, answer in _said(hostvars, hosts, name, {}):
            if dead := (answer or {}).get("taken_over"):
                rest = "" if re.match(r"(deploy|rollback) of ", dead["what"]) else ". What it had still to do is not done by this: run it again"
                found.setdefault(f"{dead['what']} by {dead['who']} had ended at '{dead['step']}' without a word{rest}", []).append(host)
    return [untrusted.printable(f"before this, on {', '.join(dict.fromkeys(there))}: {what}", 1000) for what, there in found.items()]


def release_failure_text(end: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """What the last task of a release says when not all went well. `end` is that of release_end; `about` has kind, tag, id and previous (a reference),
    what is unfinished, and hook_errors of the operator's tasks after the end; and perhaps image (digest, built), undone migrations and the backup."""
    trouble, behind, unfinished, hooks = end["trouble"], end["behind"], about["unfinished"], about["hook_errors"]
    if trouble:
        lines = [f"The {about['kind']} of {about['tag']} failed ({about['id']})."]
    elif unfinished:
        lines = [f"{about['tag']} serves, and not every host has its record ({about['id']})."]
    else:
        lines = [f"The {about['kind']} of {about['tag']} succeeded ({about['id']}), and it serves; release_post_deploy_tasks failed."]
    lines += [*trouble, *behind]
    lines += about.get("after", [])
    image = about.get("image") or {}
    if trouble and image.get("digest"):
        lines.append(f"The image of {about['tag']}: {image['digest']}, built {image.get('built', '?')}.")
    undone = ", ".join(about.get("undone") or [])
    if undone and trouble:
        lines.append(_undone_text(about, undone, bool(behind)) if about["kind"] == "rollback" else f"Its migrations were undone: {undone}.")
    if end["lost"]:
        lines.append("Another one has taken the lock of this release, so nothing more was changed: see playbooks/releases.yml.")
    elif about.get("stands"):
        lines += _standing_text(about)
    elif behind:
        lines.append("NOT switched back, see above: run the playbook again, or playbooks/rollback.yml.")
    elif trouble:
        closed = f" The site was closed for {about['closed']} s." if about.get("closed") else ""
        lines.append(f"{about['previous']} serves, as before.{closed}" + ("" if unfinished else " The lock is released."))
    lines += [*unfinished, *(["A lock that is left ends by itself, or with the next release from here."] if unfinished else [])]
    return "\n".join(lines + [f"{'release_post_failure_tasks' if trouble else 'release_post_deploy_tasks'}: {one}" for one in hooks])


def _standing_text(about: Mapping[str, Any]) -> list[str]:
    """Of a release in maintenance that could not go back, what is now and how to go on."""
    again = f"playbooks/{about['kind']}.yml ... -e release_maintenance=true"
    dump = about.get("backup") or "of before this release"
    return [
        "The maintenance page stands, and nothing is served:",
        *(f"  {one}" for one in about["stands"]),
        f"Go on with one of: the same command when this is mended ({again}); a corrected image ({again} -e django_image_tag=TAG);",
        f"or the database of before: playbooks/restore.yml with the dump {dump}, then playbooks/deploy.yml of {about['previous']} with "
        "-e release_maintenance=true, which opens the site. See docs/operations/runbook.md, 'A maintenance release failed'.",
    ]


def _undone_text(about: Mapping[str, Any], undone: str, behind: bool) -> str:
    """Of a rollback that failed behind its undo, what became of the migrations."""
    dump = f" What was in them is in the dump {about['backup']} of before." if about.get("backup") else ""
    if behind:
        return f"Undone: {undone}.{dump} The rollback can be run again: what is undone is passed over then."
    return f"{undone} had been undone, and came back empty with {about['previous']}.{dump}"


def release_refusal_text(about: Mapping[str, Any]) -> str:
    """Why a release does not begin. `about` has tag and previous (a reference), the unsafe migrations that are not allowed, and the tasks that are due
    within so many minutes."""
    lines = [f"{about['tag']} is not released now."]
    if about["unsafe"]:
        lines += [
            f"release_allow_unsafe_migrations: pending migrations would break {about['previous']}, which serves until the last instance is replaced:",
            *(f"  {one}" for one in about["unsafe"]),
            "Split them over two releases (add first, remove later). One that you know to be bearable: release_accepted_migrations: [app.0007_name].",
            "Where they cannot be split: -e release_maintenance=true closes the site meanwhile.",
            "All of them, and errors for users: -e release_allow_unsafe_migrations=true.",
        ]
    if about["due"]:
        lines += [
            f"release_window_tasks: {', '.join(about['due'])}; within {about['minutes']} min of these nothing is released.",
            "Wait, or say -e release_force=true.",
        ]
    return "\n".join(lines)


def release_probe_text(probe: Mapping[str, Any], allowed: int, outside: list) -> str:
    """Too many requests failed: those of the traffic probe, and what the controller saw from outside."""
    lines = [f"from the controller: {'; '.join(outside)}"] if outside else []
    last = "; ".join(probe.get("failures", [])[-5:])
    return "\n".join([
        *lines,
        f"{probe.get('failed', 0)} of {probe.get('requests', 0)} requests of the traffic probe failed",
        f"({probe.get('forgiven', 0)} while the only instance restarted), {allowed} more may",
        f"(release_failed_requests). The last: {last}",
    ])  # fmt: skip


def release_success_text(about: Mapping[str, Any], probe: Mapping[str, Any]) -> str:
    """What the last task of a release says when all went well. `about` has kind, tag, id, previous (a tag), the migrations that were applied or undone, and
    what is said where nothing was saved before (unsaved)."""
    undone = " taken back" if about["kind"] == "rollback" else ""
    probed = [
        f"{about['kind']} of {about['tag']} succeeded ({about['id']}); {probe.get('requests', 0)} requests probed,",
        f"{probe.get('failed', 0)} failed, slowest {probe.get('slowest', 0)} s",
    ]
    if about.get("maintenance"):
        probed = [f"{about['kind']} of {about['tag']} succeeded ({about['id']}); the site was closed for {about.get('closed', 0)} s"]
        probed += ["maintenance.on was there before, and stays: remove it to open the site"] if about.get("theirs") else []
    return "\n".join([
        *probed,
        f"migrations{undone}: {', '.join(about['migrations']) or 'none'}",
        *about.get("unsaved", []),
        *about.get("after", []),
        f"back with: ansible-playbook playbooks/rollback.yml -i ... (to {about['previous']})",
        f'set senex_image_tag: "{about["tag"]}" in the inventory when you next change it',
    ])  # fmt: skip


def release_tasks_due(due: Mapping[str, Any], minutes: int) -> list[str]:
    """Periodic tasks that are due within so many minutes, with the time that is left."""
    seconds = {name: int(left) for name, left in due.items() if left is not None}
    return [f"{name} in {left // 60} min {left % 60:02d} s" for name, left in seconds.items() if left < minutes * 60]


def release_input_problems(given: Mapping[str, Any]) -> list[str]:
    """One line for each input of a release that cannot be meant. `given` has them by their names."""
    path = {"form": r"^(/[!-~]*)?$", "says": "no path; write one that begins with a slash, or nothing"}
    found = form_problems({name: {**path, "value": given[name]} for name in ("release_ready_path", "release_websocket_path")})
    found += minimum_problems({name: given[name] for name in ("release_ready_timeout", "release_plan_timeout", "release_backup_keep")}, 1)
    if not given["release_probe_paths"] or not all(re.match(r"/[!-~]*$", str(one)) for one in given["release_probe_paths"]):
        found.append("release_probe_paths: each must begin with a slash, and there must be one")
    names = [str(name) for name in given["release_accepted_migrations"] if not re.match(r"[A-Za-z_][A-Za-z0-9_]*[.][A-Za-z0-9_]+$", str(name))]
    if names:
        found.append(f"release_accepted_migrations: {', '.join(names)} is no name of a migration; write such as app.0007_name")
    return found + [line for name in HOOKS for line in _hook_problems(name, str(given[name] or ""))]


def _hook_problems(name: str, path: str) -> list[str]:
    """Found on the controller, before the first change: a file that is missed in the middle of a release ends it half-way."""
    if not path:
        return []
    if not path.startswith("/"):
        return [f"{name}: '{path}' is no absolute path; write such as \"{{{{ inventory_dir }}}}/hooks/{name.removeprefix('release_')}.yml\""]
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        return [f"{name}: there is no file {path} on the controller that can be read"]
    return []


def unreleased_image(here: str, wanted: str, release: dict, host: str, command: str) -> list:
    """A line where a run would replace the application's image on the way. What was released last, a host may have missed."""
    if here in ("", wanted) or (release or {}).get("reference") == wanted:
        return []
    return [
        f"senex_image_tag: {host} runs {here}, and this run would replace it by {wanted} without the plan of its migrations, a dump, probes and a record, so"
        f" nothing could roll it back. Release it: {command}. Nothing was changed. Where no release can be made, for one run:"
        " -e senex_image_without_release=true"
    ]


class FilterModule:
    """Filters of releases."""

    def filters(self):
        """Names in templates."""
        return {
            "unreleased_image": unreleased_image,
            "newest_records": newest_records,
            "release_failure_text": release_failure_text,
            "release_input_problems": release_input_problems,
            "release_is_deployed": release_is_deployed,
            "release_lines": release_lines,
            "release_missing_record": release_missing_record,
            "release_newer_records": release_newer_records,
            "release_probe_text": release_probe_text,
            "release_refusal_text": release_refusal_text,
            "release_reports": release_reports,
            "release_success_text": release_success_text,
            "release_taken_over": release_taken_over,
            "release_tasks_due": release_tasks_due,
            "release_unfinished": release_unfinished,
            "rollback_target": rollback_target,
        }

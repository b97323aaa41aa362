"""What makes a run of ansible-playbook cost less in the tests, which start some hundreds.

Ansible packs each module with all that it imports once a run, at 0.1 to 0.2 s each. Modules packed by an earlier run are used again: Ansible's own and this
collection's, under a digest of all that goes into them. Jinja compiles each template in each worker anew, some 3,000 times a run of site.yml at 1 ms each:
the code of an earlier one is used again, under a digest of the text, of the settings and of the plugins. Each worker loads all filters and tests too, at
20 ms: they are loaded once, before the workers are forked. And Python's collector of cycles is off: it looks
through all that was parsed again and again, in every worker too, and a run ends before there is much to collect.
"""

import contextlib
import gc
import hashlib
import marshal
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import jinja2
from ansible import constants
from ansible._internal._templating._jinja_bits import _TemplateCompileContext
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import connection_loader, filter_loader, lookup_loader, test_loader
from ansible.release import __version__
from ansible.utils.collection_loader._collection_finder import _get_collection_path

DOCUMENTATION = """
name: senex_cheaper
type: aggregate
short_description: Use modules again that an earlier run packed, and templates that one compiled
description: For the tests of this collection alone.
"""

KEPT = ("ansible.modules.", "ansible_collections.senex.trader.")
PARTS = ("modules", "module_utils")
TEMPLATE_PARTS = ("filter", "test")
SETTINGS = (
    "block_start_string", "block_end_string", "variable_start_string", "variable_end_string", "comment_start_string", "comment_end_string",
    "line_statement_prefix", "line_comment_prefix", "trim_blocks", "lstrip_blocks", "newline_sequence", "keep_trailing_newline", "autoescape",
    "optimized", "sandboxed", "is_async",
)  # fmt: skip
OLD_SECONDS = 3 * 86400


def digest(collection, parts=PARTS):
    """Of Ansible and Python as they are, and of the content of all that the collection's modules can import, or of its plugins of other kinds."""
    found = hashlib.sha256(f"{__version__} {jinja2.__version__} {sys.version} {constants.__file__}".encode())
    for path in sorted(path for part in parts for path in Path(collection, "plugins", part).rglob("*.py")):
        found.update(f"{path.relative_to(collection)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()[:20]


def lend(kept, place):
    """Let a run find what is kept where it would put its own."""
    place.mkdir(parents=True, exist_ok=True)
    for path in kept.iterdir() if kept.is_dir() else ():
        if path.name.startswith(KEPT):
            (place / path.name).symlink_to(path)


def keep(place, kept):
    """Keep what a run packed itself. Each file comes whole or not at all, whoever else does the same."""
    if not kept.is_dir():
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        _forget_old(kept.parent)
    for path in place.iterdir():
        if path.is_symlink() or path.name.endswith((".lock", "-part")) or not path.name.startswith(KEPT):
            continue
        handle, partial = tempfile.mkstemp(dir=kept, prefix=".")
        os.close(handle)
        shutil.copyfile(path, partial)
        os.replace(partial, kept / path.name)


def remembering(compile, kept):
    """Jinja's `Environment.compile`, which looks first whether this template was compiled before. Files come whole or not at all."""

    def compiled(self, source, name=None, filename=None, raw=False, defer_init=False):
        if raw or not isinstance(source, str):
            return compile(self, source, name, filename, raw, defer_init)
        context = _TemplateCompileContext.current(optional=True)
        settings = [getattr(self, setting) for setting in SETTINGS]
        made_of = (type(self).__qualname__, str(source), name, filename, defer_init, settings, sorted(self.extensions), context and context.escape_backslashes)
        place = kept / hashlib.sha256(repr(made_of).encode()).hexdigest()
        with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
            return marshal.loads(place.read_bytes())
        code = compile(self, source, name, filename, raw, defer_init)
        with contextlib.suppress(OSError):
            handle, partial = tempfile.mkstemp(dir=kept, prefix=".")
            with os.fdopen(handle, "wb") as file:
                file.write(marshal.dumps(code))
            os.replace(partial, place)
        return code

    return compiled


def remember_templates(all_kept, collection):
    """For this process, and for those that it forks."""
    kept = all_kept / digest(collection, TEMPLATE_PARTS)
    if not kept.is_dir():
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        _forget_old(all_kept)
    jinja2.Environment.compile = remembering(jinja2.Environment.compile, kept)


def load_plugins():
    """For this process, and for those that it forks."""
    for loader in (filter_loader, test_loader):
        for _ in loader.all():
            pass
        # To ask for one of a collection loads all of it, and says that it has none of this name
        with contextlib.suppress(KeyError):
            loader.get("senex.trader.none")
    # Each worker would read the options of these anew; the inventories of the tests take their key's path from the environment
    lookup_loader.get("ansible.builtin.env")
    connection_loader.get("ansible.builtin.ssh", class_only=True)
    gc.freeze()


def _forget_old(all_kept):
    for path in all_kept.iterdir():
        if path.stat().st_mtime < time.time() - OLD_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "senex_cheaper"

    def __init__(self):
        super().__init__()
        gc.disable()
        gc.freeze()
        collection, lab = _get_collection_path("senex.trader"), Path(os.environ["SENEX_LAB_DIR"])
        remember_templates(lab / "templates", collection)
        self.place = Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache")
        self.kept = lab / "modules" / digest(collection)
        lend(self.kept, self.place)
        self.tasks = 0

    def v2_playbook_on_task_start(self, task, is_conditional):
        self.tasks += 1
        if self.tasks == 2:  # a run of one task does without
            load_plugins()

    def v2_playbook_on_stats(self, stats):
        keep(self.place, self.kept)

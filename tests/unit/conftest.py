"""The collection under its own name, as Ansible loads it: ansible_collections.senex.trader is this very tree."""

import contextlib
import pathlib

from ansible.plugins.loader import init_plugin_loader

with contextlib.suppress(Exception):  # a second time is one too many
    init_plugin_loader([str(pathlib.Path(__file__).parents[2])])


def pytest_collection_finish(session):
    """A module that has slow processes to start starts them now, and its tests find them done."""
    if not session.config.option.collectonly:
        for module in {item.module for item in session.items if hasattr(item.module, "begin")}:
            module.begin([item for item in session.items if item.module is module])

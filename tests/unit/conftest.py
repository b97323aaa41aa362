"""The collection under its own name, as Ansible loads it: ansible_collections.senex.trader is this very tree."""

import contextlib
import pathlib

from ansible.plugins.loader import init_plugin_loader

with contextlib.suppress(Exception):  # a second time is one too many
    init_plugin_loader([str(pathlib.Path(__file__).parents[2])])

# Everything goes through tests/run, which installs what is missing, shows progress and asks nothing.
PYTHON ?= python3
ROLE ?=
IMAGE ?=
INVENTORY ?=
VARIABLES ?=
.PHONY: help venv quick lint unit molecule integration test faults versions bench soak demo demo-down contract

help:
	@echo 'make demo          bring the whole stack up on a local test host'
	@echo 'make demo-down     remove the test host and its data'
	@echo 'make test          lint, unit, molecule, integration'
	@echo 'make quick         what changed since the last commit: its lint, unit tests, the scenarios of its roles'
	@echo 'make lint          ansible-lint, yamllint, ruff, shellcheck, ansible-test sanity'
	@echo 'make unit          tests that need no host'
	@echo 'make molecule      every role scenario; ROLE=redis runs one'
	@echo 'make integration   tests on the demo host'
	@echo 'make faults        tests that take minutes each: a lost host, a release killed at every step'
	@echo 'make versions      unit tests, lint and a host on each supported Python and Ansible that is here; PYTHONS names interpreters'
	@echo 'make bench         measure the figures of docs/figures.json; needs the demo'
	@echo 'make soak          half an hour of load in which nothing may happen; needs the demo; SENEX_SOAK_MINUTES'
	@echo 'make contract      check an application image: IMAGE=NAME, with the inputs of INVENTORY=DIRECTORY or of VARIABLES=FILE'
	@echo 'make venv          the pinned tools of requirements.txt; prints where they are'

venv quick lint unit integration test faults versions bench soak demo demo-down:
	@$(PYTHON) tests/run $@

molecule:
	@$(PYTHON) tests/run molecule $(addprefix --role=,$(ROLE))

# A line a finding, as JSON has a list, and no list of how long each task took
contract: export ANSIBLE_CALLBACK_RESULT_FORMAT = json
contract: export ANSIBLE_CALLBACKS_ENABLED = ansible.posix.timer
contract: export ANSIBLE_LOCALHOST_WARNING = false
contract: export ANSIBLE_INVENTORY_UNPARSED_WARNING = false
contract:
	@"$$($(PYTHON) tests/run venv | tail -n 1)/bin/ansible-playbook" playbooks/check_image.yml $(addprefix -i ,$(INVENTORY)) $(addprefix -e @,$(VARIABLES)) \
	    -e image=$(IMAGE)

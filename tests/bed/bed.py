"""Containers of the second lab: what the tests of the test bed share."""

IMAGE = "localhost/bed:latest"


def create(lab, name, *options):
    return lab("run", "--", "podman", "run", "--detach", "--privileged", "--network", "senex-lab", "--name", name, *options, IMAGE)


def running(lab):
    return lab("run", "--", "podman", "ps", "--format", "{{.Names}}").split()


def pid(lab, name):
    return lab("run", "--", "podman", "inspect", "--format", "{{.State.Pid}}", name)

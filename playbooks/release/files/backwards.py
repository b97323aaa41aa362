# Which migrations a way back takes back, and in which order. Ahead of plan.py and of undo.py, so that what is said before is what is done.


def reversible(operation):
    """With its parts: one that has some does not say that one of them cannot be undone."""
    return operation.reversible and all(reversible(part) for part in getattr(operation, "database_operations", None) or ())


def dotted(keys):
    return ", ".join(".".join(key) for key in keys)


def parts(migration, wanted):
    """What goes with a migration: itself, or what a squashed one replaces, newest first."""
    key = (migration.app_label, migration.name)
    return [key] if key in wanted else list(reversed(migration.replaces)) or [key]


def backwards(executor, names):
    """`plan`, these migrations in the order to take them back; `back`, those that are not applied any more; `refused`, why these alone cannot be.

    Django's `migrate APP NAME` takes back every child of NAME that is applied, also one of a release that stays.
    """
    graph, applied, records = executor.loader.graph, executor.loader.applied_migrations, executor.recorder.applied_migrations()
    wanted = [tuple(name.split(".", 1)) for name in names]
    there = [key for key in wanted if key in applied]
    # A squashed migration stands in the graph for what it replaces, and is taken back as a whole
    squashed = {part: key for key, migration in graph.nodes.items() for part in migration.replaces if part not in graph.nodes}
    found = {key: squashed.get(key, key) for key in there}
    nodes = dict.fromkeys(key for key in found.values() if key in graph.nodes)
    reach = {key: [one for one in graph.backwards_plan(key) if one in applied] for key in nodes}
    taken = {one for key in nodes for one in reach[key]}
    order = [migration for migration, _ in reversed(executor.migration_plan(graph.leaf_nodes(), clean_start=True))]
    plan = [migration for migration in order if (migration.app_label, migration.name) in taken]

    refused = [f"{dotted([key])} is not in this image" for key in there if found[key] not in graph.nodes]
    for migration in plan:
        key = (migration.app_label, migration.name)
        others = [part for part in parts(migration, wanted) if part not in wanted and part in records]
        if others:
            because = dotted(one for one in nodes if key in reach[one] and one != key) or f"{dotted([key])}, which is in their place"
            refused.append(f"{dotted(others)} would go with {because}, and no release that is taken back brought it")
        elif not all(reversible(operation) for operation in migration.operations):
            refused.append(f"{dotted([key])} cannot be undone")
    # What needs a migration was applied after it
    known = {*graph.nodes, *squashed, *(part for migration in graph.nodes.values() for part in migration.replaces)}
    first = min((records[key].applied for key in there if key in records), default=None)
    refused += [
        f"{dotted([key])} was applied after them and is not in this image, so nobody knows what it needs"
        for key, record in sorted(records.items())
        if first and key not in known and key not in wanted and record.applied >= first
    ]
    return {"plan": plan, "back": [name for name, key in zip(names, wanted, strict=True) if key not in applied], "refused": refused}

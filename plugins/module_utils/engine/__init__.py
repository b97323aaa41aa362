"""The transaction that puts a component in place: plan, validate, pull, install, restart, verify, roll back.

Private to the collection. May import: host, nginx.
"""

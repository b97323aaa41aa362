"""What everything on a host stands on: files and manifests, bounded reads, paths that others may write, the service user, the deploy lock.

Private to the collection. May import: nothing of the others.
"""

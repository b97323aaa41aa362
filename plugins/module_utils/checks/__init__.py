"""What a host has to be and to have, looked at before the first change and after the last.

Private to the collection. May import: host.
"""

"""What the engine and a release ask of nginx: which servers are in service, sites, requests that are held.

Private to the collection. May import: host.
"""

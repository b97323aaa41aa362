"""Whether an image keeps the contract of this collection: it is run beside throw-away services, and what was seen is judged.

Private to the collection. May import: host, engine.
"""

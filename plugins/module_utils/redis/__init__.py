"""Redis on a host: how it is asked over TLS, and its move to another host.

Private to the collection. May import: host, nginx.
"""

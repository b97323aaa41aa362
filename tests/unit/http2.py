"""As much of HTTP/2 as a client needs that asks for much and reads nothing."""

import socket
import ssl
import struct

HEADERS, SETTINGS, WINDOW_SIZE = 1, 4, 4
END_STREAM, END_HEADERS = 1, 4
INDEXED_62 = b"\xbe"  # the newest entry of the table that the client has the server keep


def frame(kind, flags, stream, payload=b""):
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def text(word):
    """A string of a header (RFC 7541), not compressed."""
    rest, size = len(word) - 127, bytearray([min(len(word), 127)])
    while rest >= 128:
        size.append(rest % 128 + 128)
        rest //= 128
    return bytes(size) + (bytes([rest]) if rest >= 0 else b"") + word


class Greedy:
    """A connection whose answers may have no bodies yet: the client's window is closed."""

    def __init__(self, port, host):
        context = ssl._create_unverified_context()
        context.set_alpn_protocols(["h2"])
        self.stream = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname=host)
        assert self.stream.selected_alpn_protocol() == "h2"
        self.host, self.number = host.encode(), 1
        self.stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, struct.pack("!HI", WINDOW_SIZE, 0)))

    def get(self, path, more=b"", flags=END_STREAM | END_HEADERS):
        """One request; `more` are headers as they are written. Without END_STREAM a body is to come."""
        head = b"\x82\x87\x04" + text(path.encode()) + b"\x01" + text(self.host)
        self.stream.sendall(frame(HEADERS, flags, self.number, head + more))
        self.number += 2

    def close(self):
        self.stream.close()

"""A mail server with a login, and no mail: what matters is which passwords it takes."""

import base64
import socketserver
import threading


class Login(socketserver.StreamRequestHandler):
    def handle(self):
        self.say("220 mail.senex.test")
        for line in self.rfile:
            word, _, rest = line.decode(errors="replace").strip().partition(" ")
            match word.upper():
                case "EHLO":
                    self.say("250-mail.senex.test", "250 AUTH PLAIN")
                case "AUTH":
                    password = base64.b64decode(rest.removeprefix("PLAIN ")).decode().split("\0")[2]
                    self.say("235 welcome" if password in self.server.accepted else "535 no")
                case "QUIT":
                    self.say("221 bye")
                    return
                case _:
                    self.say("502 not here")

    def say(self, *lines):
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


class Mail(socketserver.ThreadingTCPServer):
    """`with Mail(address) as mail:` answers at mail.server_address, and takes the passwords of mail.accepted."""

    daemon_threads = True

    def __init__(self, address):
        super().__init__((address, 0), Login)
        self.accepted = set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def server_close(self):
        self.shutdown()
        super().server_close()

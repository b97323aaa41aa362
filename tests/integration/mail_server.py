"""A mail server with a login, whose passwords a test names, and which keeps what it is sent. On a test host: mail_server.py PORT FILE."""

import base64
import itertools
import socketserver
import sys
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
                case "MAIL" | "RCPT" | "RSET":
                    self.say("250 good")
                case "DATA":
                    self.say("354 go on")
                    mail = itertools.takewhile(lambda line: line != b".\r\n", self.rfile)
                    self.server.keep(b"".join(mail).decode(errors="replace"))
                    self.say("250 kept")
                case _:
                    self.say("502 not here")

    def say(self, *lines):
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


class Mail(socketserver.ThreadingTCPServer):
    """`with Mail(address) as mail:` answers at mail.server_address, and takes the passwords of mail.accepted. mail.kept has what was sent."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address, port=0):
        super().__init__((address, port), Login)
        self.accepted, self.kept = set(), []
        self.keep = self.kept.append
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def server_close(self):
        self.shutdown()
        super().server_close()


if __name__ == "__main__":
    with Mail("127.0.0.1", int(sys.argv[1])) as mail, open(sys.argv[2], "a", encoding="utf-8") as file:
        mail.keep = lambda text: (file.write(text), file.flush())
        threading.Event().wait()

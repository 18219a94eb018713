"""What a peer of a host sees of it. `peer.py serve` answers each line with the same line, on port 7000. `peer.py ask HOST` opens a
connection to that and takes orders, a line each: `ask` sends a line over the open connection, `wait` does and has patience, `new` opens
another connection first. For each it prints what came of it: `answer`, `silence`, or `closed` (the other side ended the connection, or
refused it)."""

import socket
import socketserver
import sys
import time

PORT = 7000
SECONDS_MAX = 4
# After silence the kernel sends again in ever longer steps: it takes a while to find out that the other side is back.
PATIENT_SECONDS_MAX = 40


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class Peer:
    def __init__(self, host):
        self.host = host
        self.asked = 0
        self.open()

    def open(self):
        self.connection = socket.create_connection((self.host, PORT), timeout=SECONDS_MAX)
        self.heard = b""

    def ask(self, seconds_max=SECONDS_MAX):
        """Answers to what was asked in vain before may come first: they are passed over."""
        self.asked += 1
        wanted = b"%d\n" % self.asked
        self.connection.sendall(wanted)
        end = time.monotonic() + seconds_max
        while wanted not in self.heard:
            self.connection.settimeout(max(end - time.monotonic(), 0.001))
            heard = self.connection.recv(4096)
            if not heard:
                return "closed"
            self.heard += heard
        return "answer"

    def obey(self, order):
        try:
            if order == "new":
                self.open()
            return self.ask(PATIENT_SECONDS_MAX if order == "wait" else SECONDS_MAX)
        except (TimeoutError, OSError) as error:
            closed = isinstance(error, ConnectionError)
            return "closed" if closed else "silence"


def main():
    if sys.argv[1] == "serve":
        with Server(("", PORT), Echo) as server:
            server.serve_forever()
    peer = Peer(sys.argv[2])
    for order in sys.stdin:
        print(peer.obey(order.strip()), flush=True)


main()

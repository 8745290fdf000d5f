"""A mail server that takes mails, refuses those to refused@, and never answers once it has the one to hangs@."""

import os
import socketserver
import sys
import time


class Session(socketserver.StreamRequestHandler):
    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self):
        self.say("220 golden")
        hangs = False
        for line in self.rfile:
            word = line.decode().strip().upper()
            if word.startswith("RCPT") and "REFUSED@" in word:
                self.say("550 5.1.1 no such mailbox")
            elif word == "DATA":
                self.say("354 go on")
                while self.rfile.readline().strip() != b".":
                    pass
                if hangs:
                    open(f"/tmp/sagaline-golden-hangs.{os.getpid()}", "w").close()
                    time.sleep(3600)
                self.say("250 taken")
            elif word == "QUIT":
                self.say("221 bye")
                return
            else:
                hangs = hangs or (word.startswith("RCPT") and "HANGS@" in word)
                self.say("250 golden")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


Server(("127.0.0.1", int(sys.argv[1])), Session).serve_forever()

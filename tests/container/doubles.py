#!/usr/bin/env python3
"""What the container's test needs beside the container: upstreams that write
down what they receive, a name server with one name, an application that sends
at a rate, and a look at a page.

    doubles.py lines PORT FILE [CERTIFICATE KEY]   lines over TCP, or over TLS
    doubles.py http PORT FILE KEYFILE              401 unless the key is the one in KEYFILE
    doubles.py names NAME                          NAME is 127.0.0.1, on port 53
    doubles.py load PORT RATE SECONDS              prints how many lines it sent
    doubles.py say PORT UNTIL_SECONDS PAUSE        one line at a time; prints how many
    doubles.py first URL                           prints when the page first came, in ns since 1970
    doubles.py get URL                             prints the page
"""

import base64
import http.server
import itertools
import random
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.request


def lines(port, path, certificate=None, key=None):
    listener = socket.create_server(("127.0.0.1", int(port)))
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)

    def serve(connection):
        try:
            if context:
                connection = context.wrap_socket(connection, server_side=True)
            with open(path, "ab", buffering=0) as out:
                while chunk := connection.recv(65536):
                    out.write(chunk)
            if context:
                connection.unwrap()
        except OSError as error:
            print(error, file=sys.stderr, flush=True)
        finally:
            connection.close()

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def http_with_key(port, path, key_file):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with open(key_file, encoding="ascii") as file:
                user = base64.b64encode(f"{file.read().strip()}:".encode()).decode()
            ok = self.headers.get("Authorization") == f"Basic {user}"
            if ok:
                with open(path, "ab") as out:
                    out.write(body)
            self.send_response(200 if ok else 401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


def names(name):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    wanted = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"
    while True:
        query, peer = server.recvfrom(512)
        end = query.index(b"\0", 12) + 1
        kind = struct.unpack("!H", query[end : end + 2])[0]
        known = query[12:end].lower() == wanted
        answers = b""
        if known and kind == 1:
            answers = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + bytes([127, 0, 0, 1])
        code = 0x8180 if known else 0x8183
        header = query[:2] + struct.pack("!HHHHH", code, 1, 1 if answers else 0, 0, 0)
        server.sendto(header + query[12 : end + 4] + answers, peer)


def load(port, rate, seconds):
    """A fiftieth of the rate, fifty times a second: names and values at random,
    which is more than compression can make small."""
    steps = 50
    batch = int(rate) // steps
    random.seed(8)
    names = [
        f"load.{random.getrandbits(32):08x}.service.metric{number}" for number in range(20_000)
    ]
    values = [repr(random.gauss(0, 1000)) for _ in range(20_011)]
    connection = socket.create_connection(("127.0.0.1", int(port)))
    sent = 0
    started = time.monotonic()
    for step in range(int(seconds) * steps):
        time_of_day = f" {1_700_000_000 + step // steps}\n"
        at = sent % len(values)
        drawn = (values[at:] + values)[:batch]
        text = "".join(
            name + " " + value + time_of_day
            for name, value in zip(random.sample(names, batch), drawn)
        )
        connection.sendall(text.encode())
        sent += batch
        ahead = started + (step + 1) / steps - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
    connection.shutdown(socket.SHUT_WR)
    took = time.monotonic() - started
    print(sent, f"{took:.1f}")


def say(port, until, pause):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    started = time.monotonic()
    for number in itertools.count(1):
        sender.sendto(f"last.words {number} 1700000000\n".encode(), ("127.0.0.1", int(port)))
        if time.monotonic() + float(pause) > started + float(until):
            print(number)
            return
        time.sleep(float(pause))


def first(url):
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1):
                print(time.time_ns())
                return
        except OSError:
            time.sleep(0.005)


def get(url):
    with urllib.request.urlopen(url, timeout=5) as page:
        sys.stdout.write(page.read().decode())


if __name__ == "__main__":
    commands = {
        "lines": lines,
        "http": http_with_key,
        "names": names,
        "load": load,
        "say": say,
        "first": first,
        "get": get,
    }
    commands[sys.argv[1]](*sys.argv[2:])

"""Clients of localhost:2003.

usage: clients.py lines NAME COUNT            numbered lines over one connection
       clients.py datagrams NAME RATE FILE    until FILE is gone; prints how many
       clients.py patient NAME FILE           a connection a tenth of a second, a line
                                              each, until FILE is gone; prints how many
       clients.py answers SECONDS             waits until a connection is taken
"""

import os
import socket
import sys
import time

address = ("127.0.0.1", 2003)
what, *arguments = sys.argv[1:]

if what == "lines":
    name, count = arguments[0], int(arguments[1])
    with socket.create_connection(address) as connection:
        connection.sendall(b"".join(b"%s.%06d 1 1700000000\n" % (name.encode(), i) for i in range(count)))
elif what == "datagrams":
    name, rate, file = arguments[0].encode(), int(arguments[1]), arguments[2]
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    began, sent = time.monotonic(), 0
    while os.path.exists(file):
        while sent < (time.monotonic() - began) * rate:
            client.sendto(b"%s.%06d 1 1700000000" % (name, sent), address)
            sent += 1
        time.sleep(0.001)
    print(sent)
elif what == "patient":
    name, file, sent, refused = arguments[0].encode(), arguments[1], 0, 0
    while os.path.exists(file):
        try:
            with socket.create_connection(address, timeout=20) as connection:
                # As one that has something else to do first.
                time.sleep(0.05)
                connection.sendall(b"%s.%06d 1 1700000000\n" % (name, sent))
                sent += 1
        except OSError as error:
            refused += 1
            print(error, file=sys.stderr)
        time.sleep(0.05)
    print(sent, refused)
elif what == "answers":
    deadline = time.monotonic() + float(arguments[0])
    while True:
        try:
            socket.create_connection(address, timeout=1).close()
            break
        except OSError:
            if time.monotonic() > deadline:
                sys.exit("nobody listens")
            time.sleep(0.01)

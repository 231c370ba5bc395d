"""An upstream: appends every line that it receives to a file, over plain TCP.

usage: upstream.py PORT FILE
"""

import socket
import sys
import threading

lock = threading.Lock()


def read(connection):
    with connection, open(sys.argv[2], "ab", buffering=0) as arrived:
        partial = b""
        while received := connection.recv(1 << 16):
            whole, newline, partial = (partial + received).rpartition(b"\n")
            with lock:
                arrived.write(whole + newline)


listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    threading.Thread(target=read, args=[connection], daemon=True).start()

"""The tools in a terminal of 80 columns: nothing runs past its edge, colours
are there and only there, and NO_COLOR is respected.

    python3 tests/terminal/look.py path/to/sidecarbon

A terminal breaks lines that are too long by itself, so what is written to it is
looked at, not what it shows. Exit: 0 every check passed, 1 one failed.
"""

import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import termios
import time

COLUMNS, ROWS = 80, 40
DEADLINE = 20
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOURS = re.compile(r"\x1b\[(3[0-7]|9[0-7]|1|2)(;[0-9;]*)?m")

LINES = b"""good.name 1
bad value x
a..b. 12 1700000000
%s 12x 1700000000
x 1 1700000000000
\x01 2
""" % b".".join([b"a.name.with.many.nodes"] * 8)

passed = failed = 0


def check(what, holds, detail=""):
    global passed, failed
    if holds:
        passed += 1
        print(f"ok    {what}")
    else:
        failed += 1
        print(f"FAIL  {what} {detail}")


def in_terminal(command, given=b"", until=None, **variables):
    """Runs a command in a terminal and answers with what it wrote. With `until`,
    it is interrupted as soon as that is there."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", **variables}
    read, write = os.pipe()
    os.write(write, given)
    os.close(write)
    child = subprocess.Popen(
        command,
        stdin=read,
        stdout=slave,
        stderr=slave,
        env=environment,
        close_fds=True,
        # Ignored in a background job of a shell, and what is ignored is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(slave)
    os.close(read)
    out, end = b"", time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if until and until.search(ESCAPES.sub("", out.decode(errors="replace"))):
            child.send_signal(signal.SIGINT)
            until = None
        if select.select([master], [], [], 0.1)[0]:
            try:
                piece = os.read(master, 65536)
            except OSError:
                break
            if not piece:
                break
            out += piece
    else:
        child.kill()
        check(f"{command[1]} ends in time", False)
    child.wait()
    os.close(master)
    return out.decode()


def widest(text):
    """The columns of the widest line that was written."""
    return max(len(line) for line in re.split(r"[\r\n]+", ESCAPES.sub("", text)))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def look(name, command, **more):
    text = in_terminal(command, **more)
    check(f"{name}: within {COLUMNS} columns", widest(text) <= COLUMNS, f"{widest(text)}\n{text}")
    check(f"{name}: in colour", COLOURS.search(text), repr(text))
    plain = in_terminal(command, NO_COLOR="1", **more)
    check(f"{name}: without, where NO_COLOR is set", not COLOURS.search(plain), repr(plain))
    return ESCAPES.sub("", text)


def piped(name, command, given=b""):
    found = subprocess.run(command, input=given, capture_output=True, timeout=DEADLINE)
    text = (found.stdout + found.stderr).decode()
    check(f"{name}: no escapes in a pipe", "\x1b" not in text, repr(text))


def read_all(server):
    """Reads what the first client sends."""
    client, _ = server.accept()
    while client.recv(65536):
        pass


def main(binary):
    upstream, listen, admin = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as directory:
        config = os.path.join(directory, "sidecarbon.toml")
        with open(config, "w") as file:
            file.write(
                f'[sink]\nurl = "tcp://127.0.0.1:{upstream}"\n'
                'api_key = "11111111-2222-3333-4444-555555555555"\n'
                "max_lines_per_second = 1000\n"
                f'[listen]\nudp = []\ntcp = ["127.0.0.1:{listen}"]\n'
                f'[admin]\nlisten = "127.0.0.1:{admin}"\n'
                '[retry]\nmax = "500ms"\n'
            )
        explain = [binary, "explain", "--config", config]
        look("explain", explain, given=LINES)
        piped("explain", explain, LINES)

        probe = [binary, "probe", "--config", config]
        text = look("probe, closed port", probe)
        check("probe, closed port: names the step", "fails at tcp" in text, text)
        check("probe, closed port: in one screen", text.count("\n") < ROWS, text)
        piped("probe", probe)

        daemon = subprocess.Popen([binary, "--config", config], stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + DEADLINE
            while True:
                try:
                    client = socket.create_connection(("127.0.0.1", listen))
                    break
                except OSError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.05)
            lines = (b"app.%d.requests %d 1700000000\n" % (n % 50, n) for n in range(60_000))
            client.sendall(b"".join(lines))
            client.close()
            watch = [binary, "status", "--watch", "--config", config]
            look("status --watch, down", watch, until=re.compile("Connection refused"))
            piped("status", watch[:2] + watch[3:])
            with socket.create_server(("127.0.0.1", upstream)) as server:
                threading.Thread(target=read_all, args=(server,), daemon=True).start()
                text = look("status --watch, draining", watch, until=re.compile("draining +about .* left"))
                check("status --watch, draining: with the time left", "left" in text, text)
        finally:
            daemon.kill()
            daemon.wait()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

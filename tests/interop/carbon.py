"""Sends through sidecarbon with real client packages and reads the points back
from the whisper files of a real carbon-cache.

    python -I carbon.py path/to/sidecarbon        (carbon.sh prepares the packages)

    clients ── UDP, TCP, pickle ──▶ sidecarbon ── TCP, KEY.name ──▶ carbon-cache ──▶ KEY/name.wsp

Storage keeps one slot a second for an hour, so a wrong stamp shows as a wrong slot.
Nothing here sleeps and hopes: every step waits for a fact (a point, a log line, the
state of a socket) and fails when it has not come after PATIENCE seconds.
"""

import contextlib
import os
import pickle
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import graphiteudp
import graphyte
import whisper
from carbon.util import TaggedSeries
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.bridge.graphite import GraphiteBridge

KEY = "0b7c9d1e-2f3a-4b5c-8d6e-9f0a1b2c3d4e"  # of nobody's account
PATIENCE = 30  # seconds, for anything that is waited for
WHOLE_RUN = 300  # seconds, for everything together
SLACK = 2  # seconds from a client's send to sidecarbon's stamp on a busy machine
SHORT = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}


class Failed(Exception):
    """A check did not hold."""


def wait_for(what, fact, *alive):
    """Asks `fact` until its answer is true; the processes named must stay alive meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := fact()):
        for process in alive:
            if process.ended():
                raise Failed(f"{process.name} ended with exit code {process.child.returncode} before: {what}")
        if time.monotonic() > deadline:
            raise Failed(f"not within {PATIENCE} s: {what}")
        time.sleep(0.02)
    return answer


def passed(what):
    print(f"PASS  {what}", flush=True)


# ------------------------------------------------------------ what is run


class Process:
    """A program that this script started, with its output in a file."""

    def __init__(self, name, command, output, env):
        self.name, self.output = name, output
        with open(output, "ab") as sink:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, env=env, cwd=output.parent
            )

    def said(self):
        """Its whole lines so far, without the colours of a terminal."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.output.read_text(errors="replace")).split("\n")[:-1]

    def ended(self):
        return self.child.poll() is not None

    def stop(self):
        """Asks it to end, waits until it has, and gives its exit code."""
        self.child.terminate()
        try:
            return self.child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not end within {PATIENCE} s of SIGTERM") from None

    def kill(self):
        self.child.kill()
        self.child.wait()


class Carbon:
    """A carbon-cache on loopback; port and storage outlive a stop and a start."""

    def __init__(self, home):
        self.home, self.data, self.process = home, home / "whisper", None
        self.port, query_port = free_ports(2)
        home.mkdir()
        (home / "carbon.conf").write_text(
            f"""[cache]
STORAGE_DIR = {home}
CONF_DIR = {home}
LOG_DIR = {home}
PID_DIR = {home}
LOCAL_DATA_DIR = {self.data}
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = {self.port}
PICKLE_RECEIVER_PORT = 0
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = {query_port}
MAX_UPDATES_PER_SECOND = inf
MAX_CREATES_PER_MINUTE = inf
CARBON_METRIC_INTERVAL = 0
ENABLE_TAGS = False
LOG_LISTENER_CONN_LOST = True
"""
        )
        (home / "storage-schemas.conf").write_text("[all]\npattern = .*\nretentions = 1s:1h\n")
        (home / "storage-aggregation.conf").touch()

    def start(self):
        script = Path(sys.executable).parent / "carbon-cache.py"
        self.process = Process(
            "carbon-cache",
            [sys.executable, "-Iu", script, "--nodaemon", "--config", self.home / "carbon.conf", "start"],
            self.home / "carbon.log",
            dict(os.environ, GRAPHITE_ROOT=str(self.home)),
        )
        wait_for(f"carbon-cache takes connections on 127.0.0.1:{self.port}", self.is_open, self.process)

    def is_open(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def connections(self):
        """How many sockets on this host are connected to it, or were and are not closed yet."""
        open_states = {"01", "08"}  # ESTABLISHED, CLOSE_WAIT
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[2].endswith(f":{self.port:04X}") and row[3] in open_states for row in rows)

    def file(self, name):
        """Where carbon keeps a series: a/b.wsp, a tagged one under _tagged and a hash."""
        return self.data / (TaggedSeries.encode(TaggedSeries.parse(name).path, os.sep, hash_only=True) + ".wsp")

    def points(self, name):
        """What is stored of a series: [(second, value)], oldest first."""
        try:
            (start, _end, step), values = whisper.fetch(str(self.file(name)), 0)
        except (OSError, whisper.WhisperException):
            return []  # not there yet, or its header is being written just now
        return [(start + i * step, value) for i, value in enumerate(values) if value is not None]

    def stored(self):
        return set(self.data.rglob("*.wsp"))

    def tell(self, name):
        """What there is of a series, for the reader of a failure."""
        if self.file(name) in self.stored():
            return f"{name} is stored with {self.points(name)}"
        files = sorted(str(path.relative_to(self.data)) for path in self.stored())
        return f"{name} is not stored; {len(files)} others are, such as {files[:5]}"


class Sidecarbon:
    """The daemon under test, on ports of its own choosing."""

    def __init__(self, home, binary, upstream_port):
        self.home, self.binary, self.process, self.ports = home, binary, None, {}
        home.mkdir()
        self.config = home / "sidecarbon.toml"
        self.config.touch(mode=0o600)
        self.config.write_text(
            f"""[sink]
url = "tcp://127.0.0.1:{upstream_port}"
api_key = "{KEY}"

[listen]
udp = ["localhost:0"]
tcp = ["localhost:0"]
pickle = ["localhost:0"]

[retry]
first = "100ms"
max = "1s"

[admin]
listen = ""

[log]
level = "trace"
format = "text"
"""
        )

    def start(self, families):
        # The caller's own settings stay outside: the environment outranks the file.
        ours = re.compile("SIDECARBON_|HOSTEDGRAPHITE_|CREDENTIALS_DIRECTORY|RUST_LOG")
        env = {name: value for name, value in os.environ.items() if not ours.match(name)}
        self.process = Process("sidecarbon", [self.binary, "--config", self.config], self.home / "sidecarbon.log", env)
        wanted = {(kind, family) for kind in ("udp", "tcp", "pickle") for family in families}
        wait_for(
            "sidecarbon says where it listens: "
            + ", ".join(sorted(f"{kind} {SHORT[family]}" for kind, family in wanted)),
            lambda: self.read_ports() or wanted <= self.ports.keys(),
            self.process,
        )

    def read_ports(self):
        """Fills `ports`, by kind and family, from the lines `listening listener=… address=…`."""
        for line in self.process.said():
            listener, address = field(line, "listener"), field(line, "address")
            if re.search(r"\blistening\b", line) and listener and address and ":" in address:
                host, port = address.rsplit(":", 1)
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                self.ports[listener.split(":")[0], family] = int(port)

    def ledger(self):
        """The counts of the last line `ledger received=… delivered=…`, by name."""
        for line in reversed(self.process.said()):
            if re.search(r"\bledger\b", line) and field(line, "received"):
                return {name: int(count) for name, count in re.findall(r'(\w+)="?(\d+)', line)}
        raise Failed("sidecarbon ended without its ledger line")


def field(line, name):
    found = re.search(rf'(?:^|\s){name}="?([^"\s]+)', line)
    return found and found[1]


def free_ports(count):
    """Ports below those that the kernel gives to outgoing connections: carbon is away for a
    while here, and who dials a closed port of that range can be connected to itself."""
    with contextlib.ExitStack() as held:
        ports = []
        for port in range(20000 + os.getpid() % 10000, 32768):
            probe = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise Failed("this host has no free port")


def loopbacks():
    """The loopback address of IPv4, and of IPv6 where this host has it."""
    found = {socket.AF_INET: "127.0.0.1"}
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::1", 0))
        found[socket.AF_INET6] = "::1"
    return found


# ------------------------------------------------------------ what is sent


class Journal:
    """What the clients send, and so what must be stored."""

    def __init__(self):
        self.series, self.rejected = {}, 0

    def line(self, how, name, value, at=None):
        """A line that is about to be sent: stamped `at`, or else by sidecarbon, now."""
        now = int(time.time())
        slots = (at, at) if at is not None else (now, now + SLACK)
        self.series.setdefault(name, (how, []))[1].append((*slots, float(value)))

    def reject(self):
        """A line that is about to be sent and must be stored nowhere."""
        self.rejected += 1

    def lines(self):
        return self.rejected + sum(len(points) for _how, points in self.series.values())


def via_graphiteudp(journal, daemon, host, family, prefix):
    client = graphiteudp.GraphiteUDPClient(host, daemon.ports["udp", family], prefix)
    how, past = f"graphiteudp to {host}", int(time.time()) - 3000

    journal.line(f"{how}, no timestamp", f"{prefix}.bare", 1.5)
    client.send("bare", 1.5, timestamp=False)
    journal.line(f"{how}, its own timestamp", f"{prefix}.own", -2)
    client.send("own", -2)
    journal.line(f"{how}, 50 minutes ago", f"{prefix}.past", "0.333333", past)  # it prints %f
    client.send("past", 1 / 3, timestamp=past)


def via_graphyte(journal, daemon, _loopbacks):
    now = int(time.time())
    for protocol in ("tcp", "udp"):
        how, prefix = f"graphyte over {protocol}", f"graphyte.{protocol}"
        port = daemon.ports[protocol, socket.AF_INET]
        client = graphyte.Sender("127.0.0.1", port, prefix, protocol=protocol, raise_send_errors=True)
        journal.line(f"{how}, its own timestamp", f"{prefix}.own", 42)
        client.send("own", 42)
        journal.line(f"{how}, an exponent, 10 minutes ago", f"{prefix}.past", 1e22, now - 600)
        client.send("past", 1e22, timestamp=now - 600)
        tagged = f"{prefix}.tagged;colour=blue;host=a-1"
        journal.line(f"{how}, tags", tagged, 7.25, now - 60)
        client.send("tagged", 7.25, timestamp=now - 60, tags={"host": "a-1", "colour": "blue"})

    batch = graphyte.Sender("127.0.0.1", daemon.ports["tcp", socket.AF_INET], interval=60)
    for i in range(50):
        journal.line("graphyte in its background thread, 50 lines a send", "graphyte.batch", i, now - 100 + i)
        batch.send("graphyte.batch", i, timestamp=now - 100 + i)
    batch.stop()


def via_prometheus(journal, daemon, loopbacks):
    past = int(time.time()) - 1800
    for family, host in loopbacks.items():
        prefix = f"prometheus.{SHORT[family]}"
        registry = CollectorRegistry()
        Gauge("tiny", "a value with an exponent", registry=registry).set(1e-07)
        Gauge("sum", "a value with all its digits", registry=registry).set(0.1 + 0.2)
        Gauge("labelled", "a label", ["shard"], registry=registry).labels("s 1").set(3)
        for name, value in (("tiny", 1e-07), ("sum", 0.1 + 0.2), ("labelled.shard.s_1", 3)):
            journal.line(f"prometheus_client's bridge to {host}, 30 minutes ago", f"{prefix}.{name}", value, past)
        address = (host, daemon.ports["tcp", family])
        GraphiteBridge(address, registry=registry, _timer=lambda: past + 0.7).push(prefix)


def via_shell(journal, daemon, _loopbacks):
    for protocol in ("tcp", "udp"):
        name = f"shell.{protocol}"
        journal.line(f"bash over {protocol}: tab, carriage return, no timestamp", name, 4.25)
        where = f"/dev/{protocol}/127.0.0.1/{daemon.ports[protocol, socket.AF_INET]}"
        subprocess.run(["bash", "-c", f'printf "{name}\\t4.25\\r\\n" >{where}'], check=True, timeout=PATIENCE)


def via_socket(journal, daemon, loopbacks):
    now = int(time.time())
    for family, host in loopbacks.items():
        prefix = f"socket.{SHORT[family]}"
        how = f"a plain socket over tcp to {host}"
        with socket.create_connection((host, daemon.ports["tcp", family])) as tcp:
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            burst = []
            for i in range(1000):
                journal.line(f"{how}, 1000 lines at once", f"{prefix}.burst", i, now - 1500 + i)
                burst.append(f"{prefix}.burst {i} {now - 1500 + i}\n")
            tcp.sendall("".join(burst).encode())
            journal.line(f"{how}, a line in pieces", f"{prefix}.pieces", 12.5, now - 20)
            for piece in (f"{prefix}.pie", "ces 12", f".5 {now - 20}", "\n"):
                tcp.sendall(piece.encode())
            journal.line(f"{how}, a float timestamp", f"{prefix}.float", 1, now - 30)
            tcp.sendall(f"{prefix}.float 1 {now - 30}.9\n".encode())
            journal.line(f"{how}, our own key before the name", f"{prefix}.own_key", 8, now - 40)
            tcp.sendall(f"{KEY.upper()}.{prefix}.own_key 8 {now - 40}\n".encode())
            journal.reject()
            tcp.sendall(f"{prefix}.nan nan {now}\n".encode())
            journal.line(f"{how}, timestamp -1", f"{prefix}.minus_one", 2)
            tcp.sendall(f"{prefix}.minus_one 2 -1\n".encode())
            journal.line(f"{how}, the last line without its newline", f"{prefix}.last", 9.75)
            tcp.sendall(f"{prefix}.last 9.75".encode())

        with socket.socket(family, socket.SOCK_DGRAM) as udp:
            for i, name in enumerate(("first", "second", "third")):
                how = f"a plain socket over udp to {host}, three lines in a datagram, no newline at its end"
                journal.line(how, f"{prefix}.{name}", i, now - 5)
            lines = [f"{prefix}.{name} {i} {now - 5}" for i, name in enumerate(("first", "second", "third"))]
            udp.sendto("\n".join(lines).encode(), (host, daemon.ports["udp", family]))


def frame(points, protocol):
    """As carbon's own clients send points: a length, and a pickle of so many bytes."""
    pickled = pickle.dumps(points, protocol)
    return struct.pack("!L", len(pickled)) + pickled


def via_pickle(journal, daemon, loopbacks):
    now = int(time.time())
    for family, host in loopbacks.items():
        prefix = f"pickle.{SHORT[family]}"
        how = f"Python's pickle to {host}"
        with socket.create_connection((host, daemon.ports["pickle", family])) as tcp:
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                name = f"{prefix}.protocol{protocol}"
                points = []
                for i, value in enumerate((0.1 + 0.2, -7, 2**70, 1e-300)):
                    journal.line(f"{how}, protocol {protocol}", name, value, now - 50 + i)
                    points.append((name, (now - 50 + i, value)))
                whole = frame(points, protocol)
                for piece in (whole[:3], whole[3:20], whole[20:]):
                    tcp.sendall(piece)

            shared, names = (now - 60, 4.5), [f"{prefix}.shared{i}" for i in range(3)]
            for name in names:
                journal.line(f"{how}, a tuple of lists that share their second half", name, 4.5, now - 60)
            tcp.sendall(frame(tuple([name, shared] for name in names), 2))
            journal.line(f"{how}, text for numbers, a float timestamp", f"{prefix}.text", 2.25, now - 70)
            journal.line(f"{how}, text for numbers, a float timestamp", f"{prefix}.text", 3.25, now - 69)
            points = [(f"{prefix}.text", (str(now - 70), "2.25")), (f"{prefix}.text", (now - 69 + 0.9, "3.25"))]
            tcp.sendall(frame(points, 4))
            journal.line(f"{how}, timestamp -1", f"{prefix}.minus_one", 5)
            journal.line(f"{how}, our own key before the name", f"{prefix}.own_key", 6, now - 40)
            for _ in range(4):
                journal.reject()
            points = [
                (f"{prefix}.minus_one", (-1, 5)),
                (f"{prefix}.nan", (now, float("nan"))),
                (f"{prefix}.two words", (now, 1)),
                (f"{prefix}.none", (now, None)),
                (f"{KEY}.{prefix}.own_key", (now - 40, 6)),
                f"{prefix}.no_point",
            ]
            tcp.sendall(frame(points, pickle.DEFAULT_PROTOCOL))
            journal.reject()  # a frame that names code, as one
            tcp.sendall(frame([(f"{prefix}.code", (now, os.getcwd))], 2))
            burst = []
            for i in range(3000):
                journal.line(f"{how}, 3000 points in a frame", f"{prefix}.burst", i, now - 3100 + i)
                burst.append((f"{prefix}.burst", (now - 3100 + i, i)))
            tcp.sendall(frame(burst, 2))


# ------------------------------------------------------------ what is checked


def check_stored(journal, carbon, daemon, seen=()):
    """Every series that was sent holds exactly its points."""
    for name, (how, points) in journal.series.items():
        if name in seen:
            continue
        prefixed = f"{KEY}.{name}"
        what = f"{how}: {name} holds {len(points)} point{'s' * (len(points) > 1)}"
        try:
            wait_for(what, lambda: len(carbon.points(prefixed)) >= len(points), carbon.process, daemon.process)
        except Failed as failure:
            raise Failed(f"{failure}\n{carbon.tell(prefixed)}") from None
        compare(what, points, carbon.points(prefixed))
        second, value = carbon.points(prefixed)[-1]
        passed(f"{how}: {name} = {value!r} at {second}" if len(points) == 1 else what)


def compare(what, points, stored):
    fits = len(points) == len(stored) and all(
        earliest <= second <= latest and value == wanted
        for (earliest, latest, wanted), (second, value) in zip(sorted(points), stored)
    )
    if not fits:
        raise Failed(f"{what}\nwanted (earliest, latest, value): {sorted(points)}\nstored (second, value): {stored}")


def check_nothing_else(journal, carbon):
    wanted = {carbon.file(f"{KEY}.{name}") for name in journal.series}
    stored = carbon.stored()
    if wanted != stored:
        differ = sorted(str(path.relative_to(carbon.data)) for path in wanted ^ stored)
        raise Failed(f"these series are stored and were not sent, or the reverse: {differ}")
    for name, (how, points) in journal.series.items():
        compare(f"{how}: {name}, looked at again", points, carbon.points(f"{KEY}.{name}"))
    passed(f"carbon holds these {len(stored)} series and no other")


def check_outage(journal, carbon, daemon, loopbacks):
    """Carbon goes away and comes back: lines sent meanwhile land in the second they were sent."""
    # The points of the last second would be lost otherwise: carbon leaves its cache behind.
    before = set(journal.series)
    carbon.process.stop()
    wait_for("sidecarbon closes its connection after carbon has", lambda: carbon.connections() == 0, daemon.process)
    passed("carbon is gone, and sidecarbon has noticed")

    via_graphiteudp(journal, daemon, "127.0.0.1", socket.AF_INET, "outage.graphiteudp")
    for family, host in loopbacks.items():
        name = f"outage.{SHORT[family]}"
        journal.line(f"a plain socket over tcp to {host} while carbon was away", name, 5.5)
        with socket.create_connection((host, daemon.ports["tcp", family])) as tcp:
            tcp.sendall(f"{name} 5.5\n".encode())
    late = time.time() + 2 * SLACK
    wait_for("the clock leaves the seconds of those sends behind", lambda: time.time() > late, daemon.process)

    carbon.start()
    check_stored(journal, carbon, daemon, seen=before)


def check_end(journal, daemon):
    """SIGTERM: exit code 0, and every line in its account."""
    code = daemon.process.stop()
    if code != 0:
        raise Failed(f"sidecarbon ended with exit code {code}, not 0, after SIGTERM")
    lines, ledger = journal.lines(), daemon.ledger()
    wanted = dict.fromkeys(("generated", "filtered", "aggregated", "dropped", "queued", "in_flight"), 0)
    wanted |= {"received": lines, "rejected": journal.rejected, "delivered": lines - journal.rejected}
    wrong = {name: (count, ledger.get(name)) for name, count in wanted.items() if ledger.get(name) != count}
    if wrong:
        raise Failed(f"the ledger at exit differs, as name: (wanted, found): {wrong}")
    passed(f"sidecarbon ends with exit code 0 and its ledger balances: {lines} lines")
    if any(KEY.lower() in line.lower() for line in daemon.process.said()):
        raise Failed("the API key is in sidecarbon's log")
    passed("its log at level trace does not hold the key")


def run(home, binary, started):
    journal, hosts = Journal(), loopbacks()
    carbon = Carbon(home / "carbon")
    started.append(carbon)
    carbon.start()
    daemon = Sidecarbon(home / "sidecarbon", binary, carbon.port)
    started.append(daemon)
    daemon.start(hosts.keys())
    where = (f"{kind} {hosts[family]} {port}" for (kind, family), port in daemon.ports.items() if family in hosts)
    passed("sidecarbon listens: " + ", ".join(where))

    for family, host in hosts.items():
        via_graphiteudp(journal, daemon, host, family, f"graphiteudp.{SHORT[family]}")
    # By name it takes ::1 where "localhost" has it, even on a host whose kernel has not.
    named = {entry[0] for entry in socket.getaddrinfo("localhost", 0, type=socket.SOCK_DGRAM)}
    preferred = socket.AF_INET6 if socket.AF_INET6 in named else socket.AF_INET
    if preferred in hosts:
        via_graphiteudp(journal, daemon, "localhost", preferred, "graphiteudp.localhost")
    else:
        print("SKIP  graphiteudp to localhost: the name means ::1, which this host does not have", flush=True)
    for via in (via_graphyte, via_prometheus, via_shell, via_socket, via_pickle):
        via(journal, daemon, hosts)
    check_stored(journal, carbon, daemon)

    if Path("/proc/net/tcp").exists():
        check_outage(journal, carbon, daemon, hosts)
    else:
        print("SKIP  carbon away and back: needs /proc/net/tcp", flush=True)
    check_nothing_else(journal, carbon)
    check_end(journal, daemon)


def show_logs(started):
    for program in started:
        if program.process:
            print(f"\n--- the last lines of {program.process.name}", file=sys.stderr)
            print("\n".join(program.process.said()[-60:]), file=sys.stderr)


def too_long(_number, _frame):
    raise Failed(f"the whole run took more than {WHOLE_RUN} s")


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python -I carbon.py path/to/sidecarbon")
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, lambda number, _frame: sys.exit(128 + number))  # so that what follows tidies up
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(WHOLE_RUN)
    begun, started = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="sidecarbon-interop-") as home:
        try:
            run(Path(home), Path(sys.argv[1]).resolve(), started)
        except Exception as failure:
            print(f"FAIL  {failure}", flush=True)
            show_logs(started)
            if not isinstance(failure, Failed):
                raise  # a client that was refused, or a defect of this script: where it was helps
            sys.exit(1)
        finally:
            for program in started:
                if program.process:
                    program.process.kill()
    print(f"carbon.py: every check passed in {time.monotonic() - begun:.1f} s")


if __name__ == "__main__":
    main()

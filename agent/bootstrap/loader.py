"""What a stock Python image runs: wait for a client that knows the boot secret, take the agent from it, start it.

The source between the marks, without comments, is the argument of `python3 -c` in the container's command, so it is
short, and stands alone. MIRRORD_TRACE_BOOT is "PORT:SECRET" (listen on the pod's loopback) or "fd:N:SECRET" (an
inherited stream socket), the secret in hexadecimal. The exchange, client first; || is concatenation, u32 big endian:

    client   nonce_c (32 bytes)
    loader   "MTBOOT1\\n" || nonce_l (32) || HMAC-SHA256(secret, "loader" || nonce_c || nonce_l)
    client   digest || length u32 || HMAC-SHA256(secret, "client" || nonce_c || nonce_l || digest || length)
    client   payload: `length` bytes whose SHA-256 is `digest`, a zip archive

A nonce of zeros only asks whether the loader is there: it answers and takes the next client at once.

Any process of the pod can reach the port. The loader reads 32 bytes, then 68 bytes, before it knows whom it talks to, and
executes nothing that was not vouched for; whoever fails is dropped and the next client may try, for 30 s in all.
The client in turn sends the payload, which holds the session's secret, only to who knows the boot secret.
"""

# ruff: noqa: E401, E402, E701, E731, I001
# mypy: ignore-errors
# fmt: off

# -- begin
import hashlib, hmac, os, socket, sys
from time import monotonic as now
where, _, key = os.environ.pop("MIRRORD_TRACE_BOOT").rpartition(":")
key = bytes.fromhex(key)
end = now() + 30
mac = lambda *parts: hmac.digest(key, b"".join(parts), "sha256")
def read(sock, size, limit):
    data = b""
    while len(data) < size:
        sock.settimeout(max(0.01, min(limit, end) - now()))
        part = sock.recv(size - len(data))
        if not part: raise OSError("cut short")
        data += part
    return data
def receive(sock):
    soon = now() + 3
    theirs, ours = read(sock, 32, soon), os.urandom(32)
    sock.sendall(b"MTBOOT1\n" + ours + mac(b"loader", theirs, ours))
    if not any(theirs): raise OSError("a look whether we are here")
    head = read(sock, 68, soon)
    if not hmac.compare_digest(head[36:], mac(b"client", theirs, ours, head[:36])): raise OSError("not a client")
    code = read(sock, int.from_bytes(head[32:36], "big"), end)
    if hashlib.sha256(code).digest() != head[:32]: raise OSError("damaged")
    return code
door = None
if where[:3] == "fd:": sock = socket.socket(fileno=int(where[3:]))
else:
    door = socket.socket()
    door.setsockopt(1, 2, 1)
    door.bind(("127.0.0.1", int(where)))
    door.listen(16)
while 1:
    try:
        if door:
            door.settimeout(max(0.01, end - now()))
            sock = door.accept()[0]
        code = receive(sock)
        break
    except OSError as error:
        if not door or now() > end: sys.exit("mirrord-trace agent: no client came: %s" % error)
        if "sock" in globals(): sock.close()
file = os.memfd_create("mirrord-trace")
with open(file, "wb", closefd=False) as out: out.write(code)
sys.path.insert(0, "/proc/self/fd/%d" % file)
from mirrord_trace.agent.main import boot
sys.exit(boot(sock, door))
# -- end

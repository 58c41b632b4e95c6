"""Programs that nobody here wrote do their work in the pod's network: clients of servers there, and servers in their place."""

from __future__ import annotations

import json
import re
import sys

import neighbours
from build import go_program
from mirrord_trace.supervisor.targets.demo import cluster, network
from runs import Runner, until

_GREETER = f"http://{network.GREETER[0]}"
_ANSWER = f"{cluster.GREETER_NAME}: GET / from {network.POD[0]}\n"
_POSTGRES_PORT = 15432
_REDIS_PORT = 16379
_HTTP2_PORT = 18081
_STOLEN_PORT = 18080


# -- clients --------------------------------------------------------------------------------------------------------


def _python(runner: Runner, source: str, *arguments: str) -> str:
    program = runner.folder / "program.py"
    program.write_text(source)
    # Its packages are those of this machine, wherever the virtual environment lies.
    config = runner.folder / "python.json"
    config.write_text(json.dumps({"feature": {"fs": {"local": ["^" + re.escape(sys.prefix)]}}}))
    traced = runner.traced(sys.executable, program, *arguments, options=["-f", config])
    assert traced.status == 0, traced
    return traced.out


def test_requests_and_urllib3(runner: Runner) -> None:
    source = """
import sys, requests, urllib3
url = sys.argv[1]
with requests.Session() as session:
    print([session.get(url).text for _ in range(3)] == [sys.argv[2]] * 3)
    print(len(session.get(url + "bytes/5000000").content))
pool = urllib3.PoolManager()
print(pool.request("GET", url).data.decode() == sys.argv[2])
"""
    assert _python(runner, source, f"{_GREETER}/", _ANSWER) == "True\n5000000\nTrue\n"


def test_aiohttp(runner: Runner) -> None:
    source = """
import asyncio, sys, aiohttp
async def main():
    async with aiohttp.ClientSession() as session:
        async def get():
            async with session.get(sys.argv[1]) as answer:
                return await answer.text()
        print(set(await asyncio.gather(*(get() for _ in range(50)))) == {sys.argv[2]})
        try:
            await session.get(sys.argv[3])
        except aiohttp.ClientConnectorError as error:
            print(error.os_error.errno)
asyncio.run(main())
"""
    refused = f"{_GREETER}:{network.REFUSED_PORT}/"
    assert _python(runner, source, f"{_GREETER}/", _ANSWER, refused) == "True\n111\n"


_NODE = """
const http = require('node:http');
const [url, refused] = process.argv.slice(2);
const get = (url, agent) => new Promise((done, failed) =>
  http.get(url, {agent}, answer => {
    let text = '';
    answer.on('data', chunk => { text += chunk; });
    answer.on('end', () => done(text));
  }).on('error', failed));
(async () => {
  const agent = new http.Agent({keepAlive: true, maxSockets: 4});
  const all = await Promise.all([...Array(20)].map(() => get(url, agent)));
  agent.destroy();
  process.stdout.write(`http ${new Set(all).size} ${all[0]}`);
  // fetch is undici.
  process.stdout.write(`undici ${await (await fetch(url)).text()}`);
  console.log(await get(refused).catch(error => error.code));
  console.log(await fetch(refused).catch(error => error.cause.code));
})();
"""


def test_node_http_and_undici(runner: Runner) -> None:
    script = runner.folder / "get.js"
    script.write_text(_NODE)
    refused = f"{_GREETER}:{network.REFUSED_PORT}/"
    traced = runner.traced(neighbours.program("node", "nodejs"), script, f"{_GREETER}/", refused)
    expected = f"http 1 {_ANSWER}undici {_ANSWER}ECONNREFUSED\nECONNREFUSED\n"
    assert (traced.status, traced.out) == (0, expected), traced


_JAVA = """
import java.net.URI;
import java.net.http.*;
import java.util.stream.*;
class Get {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient();
        var request = HttpRequest.newBuilder(URI.create(arguments[0])).build();
        var all = IntStream.range(0, 20)
            .mapToObj(i -> client.sendAsync(request, HttpResponse.BodyHandlers.ofString())).toList();
        System.out.print(all.stream().map(each -> each.join().body()).collect(Collectors.toSet()));
        var refused = HttpRequest.newBuilder(URI.create(arguments[1])).build();
        try {
            client.send(refused, HttpResponse.BodyHandlers.ofString());
        } catch (java.net.ConnectException error) {
            System.out.println("refused");
        }
    }
}
"""


def test_java_http_client(runner: Runner) -> None:
    source = runner.folder / "Get.java"
    source.write_text(_JAVA)
    java = neighbours.program("java", "default-jdk-headless")
    refused = f"{_GREETER}:{network.REFUSED_PORT}/"
    traced = runner.traced(java, "-XX:TieredStopAtLevel=1", source, f"{_GREETER}/", refused)
    assert (traced.status, traced.out) == (0, f"[{_ANSWER}]refused\n"), traced


_PSYCOPG = """
import sys, psycopg
with psycopg.connect(host="10.244.0.7", port=sys.argv[1], user="ann", dbname="postgres") as connection:
    print(connection.execute("select inet_client_addr()").fetchone()[0])
    connection.execute("create table t (number int)")
    with connection.cursor().copy("copy t from stdin") as copy:
        for number in range(20000):
            copy.write_row((number,))
    print(connection.execute("select count(*), sum(number) from t").fetchone())
    connection.execute("notify news, 'hello'")
    connection.rollback()
"""


def test_psycopg_with_postgres_in_the_pod(runner: Runner) -> None:
    with neighbours.postgres(runner.pod, _POSTGRES_PORT, runner.folder):
        out = _python(runner, _PSYCOPG, str(_POSTGRES_PORT))
        assert out == "10.244.0.7\n(20000, 199990000)\n"
        psql = [neighbours.program("psql", "postgresql-client"), "-h", "localhost", "-p", str(_POSTGRES_PORT)]
        traced = runner.traced(*psql, "-U", "ann", "-Atc", "select inet_server_addr(), 6 * 7", "postgres")
        assert traced.out in ("127.0.0.1|42\n", "::1|42\n"), traced


def test_redis_cli_with_redis_in_the_pod(runner: Runner) -> None:
    cli = [neighbours.program("redis-cli", "redis-tools"), "-p", str(_REDIS_PORT)]
    with neighbours.redis(runner.pod, _REDIS_PORT, runner.folder):
        assert runner.traced(*cli, "set", "colour", "green").out == "OK\n"
        assert runner.traced(*cli, "-h", network.POD[0], "get", "colour").out == "green\n"
        script = "for i = 1, 1000 do redis.call('rpush', 'list', i) end return redis.call('llen', 'list')"
        assert runner.traced(*cli, "eval", script, "0").out == "1000\n"
        # A pipeline of many answers at once.
        assert len(runner.traced(*cli, "lrange", "list", "0", "-1").out.split()) == 1000


def test_a_static_go_client_as_grpc_does_it(runner: Runner) -> None:
    pair = go_program("h2pair")
    url = f"http://{network.POD[0]}:{_HTTP2_PORT}"
    command = [pair, "serve", f":{_HTTP2_PORT}"]
    with neighbours.server(runner.pod, _HTTP2_PORT, *command, log=runner.folder / "h2.log"):
        traced = runner.traced(pair, "call", url, H2PAIR_USER="eve")
        curl = runner.traced("curl", "-sS", "--http2-prior-knowledge", "-d", "abc", f"{url}/echo.Echo/Unary")
    assert (traced.status, traced.out) == (0, _called("eve", network.POD[0])), traced
    assert (curl.status, curl.out) == (0, f"HTTP/2.0 3 bytes  from {network.POD[0]}"), curl


def _called(user: str, peer: str) -> str:
    return (
        f"unary HTTP/2.0 0 bytes {user} from {peer}: 0, fine\n"
        f"unary HTTP/2.0 3000000 bytes {user} from {peer}: 0, fine\n"
        "fails 5\n"
        'stream 100 lines: 0, last "heard line 99"\n'
    )


# -- servers --------------------------------------------------------------------------------------------------------


_NGINX = """
daemon off; worker_processes 3; error_log stderr; pid {folder}/nginx.pid;
events {{ worker_connections 256; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen {port}; listen [::]:{port};
    location / {{ return 200 "nginx for $remote_addr at $server_addr\\n"; }}
    location /pages/ {{ alias {folder}/pages/; }}
    location /up {{ proxy_pass {greeter}/; }}
  }}
}}
"""


def test_nginx_with_its_workers_is_stolen_for(runner: Runner) -> None:
    pages = runner.folder / "pages"
    pages.mkdir()
    (pages / "big").write_bytes(bytes(range(256)) * 20000)
    config = runner.folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=runner.folder, port=_STOLEN_PORT, greeter=_GREETER))
    # Its workers give up root, where the one who runs the test is root.
    for place in (runner.folder, *runner.folder.parents[:2]):
        place.chmod(place.stat().st_mode | 0o055)
    nginx = [neighbours.program("nginx", "nginx-light"), "-p", runner.folder, "-c", config, "-e", "stderr"]
    with neighbours.stealing(runner, _STOLEN_PORT, *nginx):
        visit = runner.pod.visit
        expected = f"nginx for {network.CLIENT[0]} at {network.POD[0]}\n".encode()
        assert [visit(_STOLEN_PORT) for _ in range(50)] == [expected] * 50
        assert visit(_STOLEN_PORT, host=network.POD[1]) == f"nginx for {network.CLIENT[1]} at {network.POD[1]}\n".encode()
        assert visit(_STOLEN_PORT, "/pages/big") == (pages / "big").read_bytes()
        # Its own connections leave from the pod.
        assert visit(_STOLEN_PORT, "/up").decode() == _ANSWER
    assert len((runner.folder / "access.log").read_text().splitlines()) >= 53


def test_redis_server_is_stolen_for(runner: Runner) -> None:
    command = [neighbours.program("redis-server", "redis-server"), *neighbours.redis_arguments(_REDIS_PORT, runner.folder)]
    cli = [neighbours.program("redis-cli", "redis-tools"), "-h", network.POD[0], "-p", str(_REDIS_PORT)]
    with neighbours.stealing(runner, _REDIS_PORT, *command):
        assert neighbours.run(runner.pod, *cli, "set", "colour", "green") == "OK\n"
        assert neighbours.run(runner.pod, *cli, stdin="get colour\nclient list\n").splitlines()[0] == "green"
        listed = neighbours.run(runner.pod, *cli, "client", "list")
        assert f"addr={network.POD[0]}:" in listed, listed


def test_a_grpc_like_server_is_stolen_for(runner: Runner) -> None:
    pair = go_program("h2pair")
    with neighbours.stealing(runner, _HTTP2_PORT, pair, "serve", f":{_HTTP2_PORT}"):
        out = neighbours.run(runner.pod, pair, "call", f"http://{network.POD[0]}:{_HTTP2_PORT}")
    assert out == _called("", network.POD[0])


def test_python_and_node_servers_are_stolen_for(runner: Runner) -> None:
    program = runner.folder / "serve.py"
    program.write_text(
        "import http.server, sys\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers()\n"
        "        self.wfile.write(f'python for {self.client_address[0]}'.encode())\n"
        "http.server.ThreadingHTTPServer(('', int(sys.argv[1])), Handler).serve_forever()\n"
    )
    with neighbours.stealing(runner, _STOLEN_PORT, sys.executable, program, str(_STOLEN_PORT)):
        assert runner.pod.visit(_STOLEN_PORT) == f"python for {network.CLIENT[0]}".encode()
    script = runner.folder / "serve.js"
    script.write_text(
        "require('node:http').createServer((request, answer) =>\n"
        "  answer.end('node for ' + request.socket.remoteAddress)).listen(+process.argv[2]);\n"
    )
    with neighbours.stealing(runner, _STOLEN_PORT, neighbours.program("node", "nodejs"), script, str(_STOLEN_PORT)):
        assert runner.pod.visit(_STOLEN_PORT).decode().replace("::ffff:", "") == f"node for {network.CLIENT[0]}"


_LIVE_SERVER = """
import asyncio, sys
from aiohttp import web
async def socket(request):
    answer = web.WebSocketResponse()
    await answer.prepare(request)
    async for message in answer:
        await answer.send_str("heard " + message.data)
    return answer
async def events(request):
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    for number in range(3):
        await answer.write(f"data: {number}\\n\\n".encode())
        await asyncio.wait_for(said.get(), 20)
    return answer
async def go_on(request):
    await said.put(None)
    return web.Response()
said = asyncio.Queue()
application = web.Application()
application.add_routes([web.get("/socket", socket), web.get("/events", events), web.get("/go-on", go_on)])
web.run_app(application, port=int(sys.argv[1]), print=None)
"""

# Each event is answered before the next is sent: nothing on the way may wait for more.
_LIVE_CLIENT = """
import asyncio, sys, aiohttp
async def main():
    async with aiohttp.ClientSession(sys.argv[1], headers={"X-User": "ann"}) as session:
        async with session.ws_connect("/socket") as socket:
            for text in ("one", "two"):
                await socket.send_str(text)
                print(await socket.receive_str())
        async with session.get("/events") as answer:
            async for line in answer.content:
                if line.strip():
                    print(line.decode().strip())
                    await session.get("/go-on")
asyncio.run(main())
"""


def test_websockets_and_events_pass_a_filter(runner: Runner) -> None:
    for name, source in (("server.py", _LIVE_SERVER), ("client.py", _LIVE_CLIENT)):
        (runner.folder / name).write_text(source)
    incoming = {"mode": "steal", "http_filter": {"header_filter": "^x-user: ann$"}}
    config = runner.folder / "filter.json"
    local = {"local": ["^" + re.escape(sys.prefix)]}
    config.write_text(json.dumps({"feature": {"fs": local, "network": {"incoming": incoming}}}))
    server = [sys.executable, runner.folder / "server.py", str(network.SECOND_HTTP_PORT)]
    client = [sys.executable, runner.folder / "client.py", f"http://{network.POD[0]}:{network.SECOND_HTTP_PORT}"]
    with neighbours.stealing(runner, network.SECOND_HTTP_PORT, *server, options=["-f", config]):
        until(lambda: neighbours.ended(runner.pod, *client).returncode == 0, "the local server has the port", 30)
        out = neighbours.run(runner.pod, *client)
        # The pod's own server goes on with what the filter leaves.
        assert runner.pod.visit(network.SECOND_HTTP_PORT).decode().startswith("I am the pod")
    assert out.split("\n") == ["heard one", "heard two", "data: 0", "data: 1", "data: 2", ""]

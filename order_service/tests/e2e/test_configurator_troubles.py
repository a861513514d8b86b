"""Hazard: operational faults of the configurator: a killed caller, a refusing queue, an unreachable SQS, changed keys.
"""

import http.client
import http.server
import json
import os
import signal
import threading

import pytest

from platform_under_test import ORDER_SERVICE_BIN
from processes import run_command
from sqs_emulator import CREDENTIALS
from waiting import wait_until

ONE = """
type: module
name: global
inputs: [{name: text, scope: general}]
blocks:
  - name: a
    type: integration
    integration: nobody.does
    inputs: [global.text]
    args: {text: $global.text}
"""


@pytest.fixture(scope="module")
def proxy(module_platform, sqs):
    proxy = module_platform.test_proxy("--sqs-endpoint-url", sqs.url, "--queue-engine", "sqs", env=CREDENTIALS)
    make_queues(proxy)
    return proxy


def make_queues(proxy) -> None:
    made = proxy.command_line("queues", "ensure", "--env", "test", "nobody", *proxy.queue_flags, env_more=CREDENTIALS)
    assert made.returncode == 0, made.stderr


def latest(proxy, name: str) -> dict:
    _, listed = proxy.client.call("GET", f"/configurator/v1/runs?template_name={name}&limit=1")
    return listed["result"][0] if listed["result"] else {"status": None}


def test_a_run_whose_caller_has_gone_is_cancelled(proxy):
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    body = {"template": ONE, "template_name": "left", "general_inputs": {"text": "x"}, "env": "test"}
    connection.request("POST", "/", json.dumps(body), {"Content-Type": "application/json"})
    wait_until(lambda: latest(proxy, "left")["status"] == "running", 20, "the run goes on")
    assert proxy.client.begin("left", {"text": "x"}, template=ONE)[0] == 409
    connection.sock.close()
    wait_until(lambda: latest(proxy, "left")["status"] == "cancelled", 10, "it is cancelled")
    status, begun = proxy.client.begin("left", {"text": "x"}, template=ONE)
    assert status == 200, begun
    assert proxy.client.call("POST", f"/configurator/v1/runs/{begun['run_id']}/cancel")[0] == 200


def test_a_run_of_a_proxy_that_stops_is_cancelled(platform, sqs):
    flags = ("--sqs-endpoint-url", sqs.url, "--queue-engine", "sqs")
    first = platform.test_proxy(*flags, env=CREDENTIALS)
    answers = []
    calling = threading.Thread(target=lambda: answers.append(first.client.proxy(ONE, "stopped", {"text": "x"})))
    calling.start()
    wait_until(lambda: latest(first, "stopped")["status"] == "running", 20, "the run goes on")
    os.kill(first.process.pid, signal.SIGTERM)
    calling.join(30)
    first.stop()
    second = platform.test_proxy(*flags, env=CREDENTIALS)
    assert latest(second, "stopped")["status"] == "cancelled"
    assert answers[0][0] == 503, answers


def test_a_message_that_is_larger_than_its_queue_takes_fails_its_block_at_once(proxy, sqs):
    client = sqs.client()
    url = client.get_queue_url(QueueName="nobody-test.fifo")["QueueUrl"]
    client.set_queue_attributes(QueueUrl=url, Attributes={"MaximumMessageSize": "1024"})
    try:
        client.send_message(QueueUrl=url, MessageBody="x" * 2000, MessageGroupId="g", MessageDeduplicationId="d")
        pytest.skip("this emulator takes what it should not")
    except client.exceptions.ClientError:
        pass
    status, answer = proxy.client.proxy(ONE, "large", {"text": "x" * 2000})
    error = answer["blocks"]["a"]["error"]
    assert status == 422 and error["code"] == "TOO_LARGE" and "1024" in error["args"]["reason"], answer


@pytest.mark.long
def test_an_sqs_that_is_away_is_said_once_and_when_it_is_back(platform, sqs):
    """Stopped for a while, it answers nobody; the log has a line for each queue, not two a second."""
    away = SqsProxy(sqs.port)
    platform.closing(away.close)
    behind = platform.test_proxy("--sqs-endpoint-url", away.url, "--queue-engine", "sqs", env=CREDENTIALS)
    make_queues(behind)
    status, begun = behind.client.begin("away", {"text": "x"}, template=ONE)
    assert status == 200, begun
    # One that is only being opened would be waited for, and the other one's long poll would go on.
    wait_until(lambda: len(away.polled) == 2, 30, "both queues are polled")
    away.open = False
    calls = away.calls
    wait_until(lambda: away.calls > calls + 20, 60, "it is tried again and again")
    away.open = True
    said = lambda words: [line for line in behind.log.read_text().splitlines() if words in line]  # noqa: E731
    wait_until(lambda: said("the queue answers again"), 40, "it is said that it is back")
    lines = said("nothing can be received")
    queues = {json.loads(line)["queue"] for line in lines}
    assert 0 < len(lines) == len(queues), lines


class SqsProxy:
    """Passes requests on, or closes their connections at once."""

    def __init__(self, port: int):
        self.calls, self.open, self.tokens, self.polled = 0, True, set(), set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):  # noqa: N802 - as the library has it
                outer.calls += 1
                outer.tokens.add(self.headers.get("X-Amz-Security-Token"))
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if not outer.open:
                    self.close_connection = True
                    return
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request("POST", self.path, body, dict(self.headers))
                if self.headers.get("X-Amz-Target", "").endswith(".ReceiveMessage"):
                    outer.polled.add(json.loads(body)["QueueUrl"])
                answer = connection.getresponse()
                content = answer.read()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.getheader("Content-Type", "application/x-amz-json-1.0"))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.long
def test_temporary_keys_are_used_and_read_again_when_they_change(platform, sqs):
    away = SqsProxy(sqs.port)
    platform.closing(away.close)
    file = platform.home / "queues.yaml"

    def write(token: str) -> None:
        entry = f"{{endpoint_url: '{away.url}', region: us-east-1, access_key_id: a, secret_access_key: s, session_token: {token}}}"
        file.write_text(f"queues: {{test: {entry}}}\n")

    write("first")
    command = [ORDER_SERVICE_BIN, "queues", "ensure", "--env", "test", "--queues", file]
    environment = {**CREDENTIALS, "ORDER_SERVICE_DATA_DIR": str(platform.data_dir)}
    made = run_command(command, env=environment)
    assert made.returncode == 0, made.stderr
    assert away.tokens == {"first"}
    proxy = platform.test_proxy("--queues", file, env=CREDENTIALS)
    status, begun = proxy.client.begin("keys", {"text": "x"}, template=ONE)
    assert status == 200, begun
    write("second")
    wait_until(lambda: "second" in away.tokens, 40, "the changed key is used")

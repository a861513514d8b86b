"""Client of the configurator's routes and of the test proxy, with the standard library only."""

import json
import urllib.error
import urllib.request

from waiting import wait_until


class ConfiguratorClient:
    def __init__(self, port: int):
        self.url = f"http://127.0.0.1:{port}"

    def call(self, method: str, path: str, body=None, content_type="application/json", timeout=120):
        """Status and JSON of any answer."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type} if data is not None else {}
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def proxy(self, template: str, name: str, general_inputs=None, env_inputs=None, env="test"):
        """`POST /` of a test proxy."""
        body = {"template": template, "template_name": name, "env": env}
        body |= {"general_inputs": general_inputs or {}, "env_inputs": env_inputs or {}}
        return self.call("POST", "/", body)

    def put_template(self, name: str, template: str):
        path = f"/configurator/v1/templates/{name}"
        return self.call("PUT", path, template.encode(), content_type="application/yaml")

    def begin(self, name: str, general_inputs=None, env_inputs=None, env="test", **more):
        body = {"template_name": name, "env": env, **more}
        body |= {"general_inputs": general_inputs or {}, "env_inputs": env_inputs or {}}
        return self.call("POST", "/configurator/v1/runs", body)

    def run(self, run_id: int) -> dict:
        status, run = self.call("GET", f"/configurator/v1/runs/{run_id}")
        assert status == 200, run
        return run

    def ended(self, run_id: int, within: float = 60) -> dict:
        def look():
            run = self.run(run_id)
            return run if run["status"] != "running" else None

        return wait_until(look, within, f"run {run_id} ends")

    def export(self, run_id: int) -> dict:
        status, export = self.call("GET", f"/v1/export?run_id={run_id}")
        assert status == 200, export
        return export

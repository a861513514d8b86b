"""The example integration of `docs/examples` with recording handlers: tests see the messages exactly as received."""

import importlib.util
import threading

from stubs import REPOSITORY

_PATH = REPOSITORY / "docs" / "examples" / "balance_integration.py"
_SPEC = importlib.util.spec_from_file_location("balance_integration", _PATH)
example = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(example)

Temporary, Permanent = example.Temporary, example.Permanent


class Watched(example.Integration):
    """Remembers every message; `before(task)` may raise, `after(integration, message, answer)` may add."""

    def __init__(self, *arguments, **kwargs):
        super().__init__(*arguments, **kwargs)
        self.messages: list[tuple[dict, dict, dict]] = []
        self.after = None

    def one(self, message: dict) -> None:
        attributes = {name: value["StringValue"] for name, value in message.get("MessageAttributes", {}).items()}
        self.messages.append((message["Body"], attributes, message["Attributes"]))
        super().one(message)

    def send(self, message: dict, block_id: int, answer: str) -> None:
        super().send(message, block_id, answer)
        if self.after:
            self.after(message, block_id, answer)


class Running:
    """An integration in a thread of its own."""

    def __init__(self, integration: Watched):
        self.integration, self._stopped, self.problem = integration, threading.Event(), None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self.integration.step(wait=1)
        except Exception as problem:  # noqa: BLE001 - told at the end
            self.problem = problem

    def close(self) -> None:
        self._stopped.set()
        self._thread.join(20)
        assert self.problem is None, self.problem

#!/usr/bin/env python3
"""An integration in Python: the queue `balance` with the task types `set_service` and `set_price`.

    pip install boto3
    AWS_REGION=eu-central-1 AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... balance_integration.py --env test

With an emulator: --endpoint-url http://localhost:4566. The protocol is in docs/configurator.md. The order is essential:
handle the message, send the answer, and only then delete the message.
"""

import argparse
import json
import re
import signal
import threading

import boto3
from botocore.exceptions import ClientError


class Temporary(Exception):
    """Transient error: no answer, the message stays in the queue and is redelivered."""


class Permanent(Exception):
    """Permanent error: answered as `{"code", "args"}`, then the message is deleted."""

    def __init__(self, code: str, args: dict):
        super().__init__(code)
        self.code, self.error_args = code, args


class Integration:
    """Handles the tasks of one queue. `handlers`: by task type, `handler(action, params, state) -> new state`."""

    def __init__(self, sqs, queue: str, env: str, handlers: dict, answers: str = "configshop", visibility: int = 30):
        self.sqs, self.handlers, self.visibility = sqs, handlers, visibility
        self.queue_url = sqs.get_queue_url(QueueName=f"{queue}-{env}.fifo")["QueueUrl"]
        self.answers_url = sqs.get_queue_url(QueueName=f"{answers}-{env}.fifo")["QueueUrl"]
        self.answered: dict[int, str] = {}  # for redeliveries: keep this in a database in production

    def run(self, stopped: threading.Event) -> None:
        while not stopped.is_set():
            self.step()

    def step(self, wait: int = 5) -> None:
        received = self.sqs.receive_message(
            QueueUrl=self.queue_url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=wait,
            VisibilityTimeout=self.visibility,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        for message in received.get("Messages", []):
            self.one(message)

    def one(self, message: dict) -> None:
        block_id = self.block_id(message["Body"])
        if block_id is not None:
            answer = self.answered.get(block_id)
            if answer is None:
                try:
                    answer = json.dumps({"block_id": block_id, "state": self.carry_out(message["Body"])})
                except Temporary as problem:
                    print(f"block {block_id} comes again: {problem}", flush=True)
                    return
                except Permanent as problem:
                    answer = self.failed(block_id, problem.code, problem.error_args)
                except Exception as problem:  # noqa: BLE001 - every error is answered
                    answer = self.failed(block_id, "INTERNAL_ERROR", {"reason": repr(problem)})
                self.answered[block_id] = answer
            self.send(message, block_id, answer)
        # After the answer: a crash before this line redelivers the message. Without a block_id no answer is possible.
        self.delete(message)

    def delete(self, message: dict) -> None:
        try:
            self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])
        except ClientError as problem:
            # The visibility timeout was over before the answer was sent: the redelivery is answered from `answered`.
            if problem.response["Error"]["Code"] not in ("ReceiptHandleIsInvalid", "InvalidParameterValue"):
                raise

    @staticmethod
    def block_id(body: str) -> int | None:
        try:
            found = json.loads(body).get("block_id")
        except (ValueError, AttributeError):
            match = re.search(r'"block_id"\s*:\s*(\d+)', body)
            found = match and int(match[1])
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    def carry_out(self, body: str) -> dict:
        try:
            task = json.loads(body)
        except ValueError:
            raise Permanent("VALIDATION_ERROR", {"reason": "the body is no JSON"}) from None
        handler = self.handlers.get(task.get("task_type"))
        if handler is None:
            raise Permanent("VALIDATION_ERROR", {"reason": "unknown task type", "task_type": task.get("task_type")})
        return handler(task["action"], task["params"], task.get("state") or {})

    @staticmethod
    def failed(block_id: int, code: str, args: dict) -> str:
        return json.dumps({"block_id": block_id, "state": {}, "error": {"code": code, "args": args}})

    def send(self, message: dict, block_id: int, answer: str) -> None:
        self.sqs.send_message(
            QueueUrl=self.answers_url,
            MessageBody=answer,
            MessageGroupId=message["Attributes"]["MessageGroupId"],
            MessageDeduplicationId=f"answer-{block_id}-{message['MessageId']}",
            MessageAttributes={"JobName": {"DataType": "String", "StringValue": "integration"}},
        )


def set_service(action: str, params: dict, state: dict) -> dict:
    """Idempotent: the id is derived from the input."""
    if action == "delete":
        return {}
    return {"id": state.get("id", 1000 + int(params["service_id"]))}


def set_price(action: str, params: dict, state: dict) -> dict:
    if action != "delete" and float(params["price"]) < 0:
        raise Permanent("VALIDATION_ERROR", {"field": "price", "reason": "must not be negative"})
    return {"price": params.get("price"), "service": params.get("service")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", choices=["dev", "test", "prod"], default="test")
    parser.add_argument("--endpoint-url")
    arguments = parser.parse_args()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    sqs = boto3.client("sqs", endpoint_url=arguments.endpoint_url)
    handlers = {"set_service": set_service, "set_price": set_price}
    Integration(sqs, "balance", arguments.env, handlers).run(stopped)


if __name__ == "__main__":
    main()

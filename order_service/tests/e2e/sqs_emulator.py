"""An Amazon SQS emulator (ministack) as a child process; `scripts/init-repo.sh --test` installs it."""

import os
import subprocess

import boto3
from ports import free_port, is_open
from stubs import REPOSITORY
from waiting import wait_until

# What botocore takes from the environment, so that nobody's real account is ever spoken to.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
JOB_NAME = {"JobName": {"DataType": "String", "StringValue": "integration"}}


class SqsEmulator:
    def __init__(self):
        program = REPOSITORY / "target" / "sqs-venv" / "bin" / "ministack"
        assert program.exists(), f"{program} is missing: scripts/init-repo.sh --test"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {"BIND_HOST": "127.0.0.1", "MINISTACK_HOST": "127.0.0.1", "GATEWAY_PORT": str(self.port)}
        self._process = subprocess.Popen(
            [program],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: is_open(self.port), 60, "the emulator listens")

    def client(self):
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        return boto3.client("sqs", endpoint_url=self.url, **keys)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)

"""Python stubs, generated once per session from the repository's own `.proto` files.

Shape: importing this module runs `protoc` (from grpcio-tools) into a temporary folder that is removed at exit.
"""

import atexit
import os
import pathlib
import shutil
import sys
import tempfile

# Processes are started by `subprocess` (vfork), which never needs gRPC's own fork handlers.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
sys.dont_write_bytecode = True

import grpc_tools  # noqa: E402
from grpc_tools import protoc  # noqa: E402

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
PROTO_DIR = REPOSITORY / "proto"

# The part of google.rpc that the error details need; the wire is what counts.
RPC_DETAILS = """
syntax = "proto3";
package google.rpc;
import "google/protobuf/any.proto";
message Status { int32 code = 1; string message = 2; repeated google.protobuf.Any details = 3; }
message BadRequest {
  message FieldViolation { string field = 1; string description = 2; }
  repeated FieldViolation field_violations = 1;
}
"""


def _generate() -> None:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="e2e-stubs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "rpc_details.proto").write_text(RPC_DETAILS)
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    code = protoc.main(
        ["protoc", f"-I{PROTO_DIR}", f"-I{folder}", f"-I{well_known}"]
        + [f"--python_out={folder}", f"--grpc_python_out={folder}"]
        + ["order_service.proto", "data_manager.proto", "rpc_details.proto"]
    )
    if code != 0:
        raise RuntimeError(f"protoc ended with {code}")
    sys.path.insert(0, str(folder))


_generate()

import data_manager_pb2 as manager  # noqa: E402
import data_manager_pb2_grpc as manager_grpc  # noqa: E402
import order_service_pb2 as orders  # noqa: E402
import order_service_pb2_grpc as orders_grpc  # noqa: E402
import rpc_details_pb2 as rpc_details  # noqa: E402

__all__ = ["REPOSITORY", "manager", "manager_grpc", "orders", "orders_grpc", "rpc_details"]

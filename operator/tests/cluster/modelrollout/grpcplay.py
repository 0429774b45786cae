"""A model server and a client that speak the Open Inference Protocol over gRPC, with KServe's own stubs.

    python grpcplay.py serve PORT NAME        answers with NAME as the model's version
    python grpcplay.py ask PORT HOST [KEY=VALUE…]    a model's name a line of input, a line of output for each

It runs in the runner's environment, where grpcio and KServe are. A model is called `good`, `bad` (the server fails) or
`wrong` (the caller made a mistake).
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services

FAILURES = {"bad": grpc.StatusCode.INTERNAL, "wrong": grpc.StatusCode.INVALID_ARGUMENT}


class Server(services.GRPCInferenceServiceServicer):
    def __init__(self, name: str) -> None:
        self.name = name

    def ModelInfer(self, request, context):
        failure = FAILURES.get(request.model_name)
        if failure is not None:
            context.abort(failure, "as asked")
        return messages.ModelInferResponse(model_name=request.model_name, model_version=self.name)


def serve(port: str, name: str) -> None:
    server = grpc.server(ThreadPoolExecutor(4))
    services.add_GRPCInferenceServiceServicer_to_server(Server(name), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


def ask(port: str, host: str, *metadata: str) -> None:
    pairs = [tuple(each.split("=", 1)) for each in metadata]
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.default_authority", host)]) as channel:
        stub = services.GRPCInferenceServiceStub(channel)
        for line in sys.stdin:
            try:
                answer = stub.ModelInfer(
                    messages.ModelInferRequest(model_name=line.strip()), metadata=pairs, timeout=10
                )
                print(answer.model_version)
            except grpc.RpcError as error:
                print(error.code().name)


if __name__ == "__main__":
    {"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])

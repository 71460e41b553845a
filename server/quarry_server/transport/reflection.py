"""Reflection in both of its versions: explorers of today ask `v1`, older ones `v1alpha`."""

from collections.abc import Sequence

import grpc
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection, reflection_pb2

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = reflection.SERVICE_NAME
_FILE = "grpc/reflection/v1/reflection.proto"


def add_reflection(services: Sequence[str], server: grpc.aio.Server) -> None:
    """Makes ``server`` describe ``services`` and reflection itself.

    grpcio-reflection knows ``v1alpha`` alone. The messages of ``v1`` are the same byte for byte, so one
    servicer answers both, and the description of ``v1`` is made of that of ``v1alpha``.
    """
    _describe_v1()
    servicer = reflection.aio.ReflectionServicer(service_names=[*services, V1, V1ALPHA])
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, methods) for service in (V1, V1ALPHA)]
    )


def _describe_v1() -> None:
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(_FILE)
    except KeyError:
        alpha = FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
        text = text_format.MessageToString(alpha).replace("reflection.v1alpha", "reflection.v1")
        described = text_format.Parse(text, FileDescriptorProto())
        described.name = _FILE
        pool.AddSerializedFile(described.SerializeToString())

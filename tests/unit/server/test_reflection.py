from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2 as pb

from quarry_server.transport.reflection import V1, V1ALPHA, add_reflection

SEARCH = "quarry.v1.SearchService"


@pytest_asyncio.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    add_reflection([SEARCH], server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    await server.stop(grace=None)


async def ask(channel: grpc.aio.Channel, version: str, **request: Any) -> pb.ServerReflectionResponse:
    call = channel.stream_stream(
        f"/{version}/ServerReflectionInfo",
        request_serializer=pb.ServerReflectionRequest.SerializeToString,
        response_deserializer=pb.ServerReflectionResponse.FromString,
    )([pb.ServerReflectionRequest(**request)], timeout=10)
    (answer,) = [response async for response in call]
    return answer


@pytest.mark.parametrize("version", [V1, V1ALPHA])
async def test_both_versions_list_and_describe_all(channel: grpc.aio.Channel, version: str) -> None:
    listed = await ask(channel, version, list_services="")
    assert {found.name for found in listed.list_services_response.service} == {SEARCH, V1, V1ALPHA}
    described = await ask(channel, version, file_containing_symbol=SEARCH)
    (data, *_) = described.file_descriptor_response.file_descriptor_proto
    assert FileDescriptorProto.FromString(data).name == "quarry/v1/search_service.proto"


async def test_v1_describes_itself_by_its_own_names(channel: grpc.aio.Channel) -> None:
    described = await ask(channel, V1, file_containing_symbol=V1)
    (data,) = described.file_descriptor_response.file_descriptor_proto
    file = descriptor_pool.DescriptorPool().AddSerializedFile(data)
    assert (file.name, file.package) == ("grpc/reflection/v1/reflection.proto", "grpc.reflection.v1")
    assert b"reflection.v1alpha" not in data
    (method,) = file.services_by_name["ServerReflection"].methods
    assert method.input_type.full_name == "grpc.reflection.v1.ServerReflectionRequest"

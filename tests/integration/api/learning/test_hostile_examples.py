"""A file of some kilobytes that holds gigabytes of text ends in a typed error, not by the kernel's hand."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE
from tests.integration.api.helpers.served import failure, served, tiny_settings
from tests.integration.api.helpers.training import Training, examples_file
from tests.unit.training.samples import write_bomb

from quarry.v1 import training_service_pb2 as pb

JOB_MEMORY_BYTES = 64 * 2**20


@pytest.fixture(scope="module")
def training(
    tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path, cross_encoder_folder: Path
) -> Iterator[Training]:
    """A server that allows 10,000 rows and a gigabyte of text, with a collection ``full``."""
    models = {"encoder": str(encoder_folder), "base_reranker": str(cross_encoder_folder), "device": "cpu"}
    limits = {"examples_rows": 10_000, "examples_text_bytes": 2**30}
    settings = tiny_settings(
        tmp_path_factory.mktemp("examples"), encoder_folder, models=models, uploads=limits
    )
    with served(settings) as api:
        api.create("full", schema=SCHEMA_MESSAGE)
        yield Training(api)


def test_more_text_than_allowed_is_refused_while_it_is_read(training: Training, tmp_path: Path) -> None:
    bomb = write_bomb(tmp_path / "bomb", rows=10_000, text_bytes=200_000)  # 2 GB
    assert len(bomb) < 14 * 2**10
    failed = training.failed("full", examples=training.upload(bomb), steps=1)
    assert failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failed.reason == "LIMIT_EXCEEDED"
    assert f"over {2**30} bytes of text" in failed.message


def test_more_rows_than_allowed_are_refused_at_once(training: Training, tmp_path: Path) -> None:
    data = write_bomb(tmp_path / "bomb", rows=10_001, text_bytes=1)
    with pytest.raises(grpc.RpcError) as caught:
        training.stub.UploadExamples(iter([pb.UploadExamplesRequest(parquet=data)]), timeout=60)
    assert failure(caught.value).code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_job_that_takes_too_much_memory_is_told_apart_from_one_that_was_killed(
    tmp_path: Path, encoder_folder: Path, cross_encoder_folder: Path
) -> None:
    models = {"encoder": str(encoder_folder), "base_reranker": str(cross_encoder_folder), "device": "cpu"}
    jobs = {"memory_bytes": JOB_MEMORY_BYTES}  # less than torch alone takes
    with served(tiny_settings(tmp_path / "data", encoder_folder, models=models, jobs=jobs)) as api:
        api.create("full", schema=SCHEMA_MESSAGE)
        training = Training(api)
        examples = training.upload(examples_file(tmp_path / "x", [("q", "bara", "d1", "d2")]))
        failed = training.failed("full", examples=examples, steps=1)
        assert (failed.code, failed.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
        assert f"jobs.memory_bytes allows: {JOB_MEMORY_BYTES} bytes" in failed.message

"""A server's ordinary day, as a program: start, index, search, mine, train, promote, search, stop.

``python -m tests.integration.network.ordinary_day ENCODER DATA`` runs a real ``quarry serve`` in the current
folder, with its jobs, on models of few weights.
"""

import sys
from pathlib import Path

import grpc
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE, WORDS, seeded_documents
from tests.integration.api.helpers.mining import Mining, judged
from tests.integration.api.helpers.served import CALL_S, OPTIONS, Api
from tests.integration.api.helpers.training import Training
from tests.integration.crash.server import LISTENING, launch

from quarry.v1 import model_service_pb2 as models_pb

DOCUMENTS = seeded_documents()
IDS = sorted(DOCUMENTS)
JUDGED = judged({f"q{n}": (str(DOCUMENTS[id]["text"])[:40], {id: 1}) for n, id in enumerate(IDS[:40])})


def main(encoder: Path, data: Path) -> None:
    with launch(data, encoder, data.with_name("server.log")) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().removeprefix(LISTENING).strip()
            with grpc.insecure_channel(address, OPTIONS) as channel:
                live_a_day(Api(channel, address))
        finally:
            process.terminate()
        assert process.wait() == 0


def live_a_day(api: Api) -> None:
    api.create("full", schema=SCHEMA_MESSAGE)
    api.upsert("full", DOCUMENTS)
    assert api.search("full", WORDS[0], require_complete=True).hits
    mined = Mining(api).mined("full", queries=JUDGED, members=["bm25", "dense", "lsa"], negatives=4)
    training = Training(api)
    made = training.trained("full", mining_set=mined.name, steps=2, joint_layers=1, max_tokens=32)
    training.models.PromoteModel(models_pb.PromoteModelRequest(name=made.name), timeout=CALL_S)
    assert api.search("full", WORDS[0], require_complete=True).reranker == made.name


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

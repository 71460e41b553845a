"""The registry's tables: in the document log's database, so that a version serves from one commit on."""

import sqlalchemy as sa

from quarry.documents.tables import metadata

model_versions = sa.Table(
    "model_versions",
    metadata,
    sa.Column("collection_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("result", sa.Text),
    sa.Column("blend", sa.Text, nullable=False),
    sa.Column("calibration", sa.Text),
    sa.Column("artefact_hash", sa.String(64), nullable=False),
    sa.Column("artefact_bytes", sa.BigInteger, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("quarry_version", sa.String(64), nullable=False),
    sa.Column("create_time_us", sa.BigInteger, nullable=False),
    sa.Column("retire_time_us", sa.BigInteger),
)

promotions = sa.Table(
    "promotions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("collection_id", sa.Integer, nullable=False, index=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("previous", sa.Text, nullable=False),
    sa.Column("rollback", sa.Boolean, nullable=False),
    sa.Column("promoted_by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False, server_default="reranker"),
    sqlite_autoincrement=True,
)

ranking_versions = sa.Table(
    "ranking_versions",
    metadata,
    sa.Column("collection_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("configuration", sa.Text, nullable=False),
    sa.Column("result", sa.Text, nullable=False),
    sa.Column("quarry_version", sa.String(64), nullable=False),
    sa.Column("create_time_us", sa.BigInteger, nullable=False),
)

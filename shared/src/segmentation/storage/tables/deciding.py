"""What decides: policies and models by version, and what put which of them in force."""

from sqlalchemy import BigInteger, Column, Date, ForeignKey, Index, Integer, Table, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB

from segmentation.storage.tables.common import MOMENT, metadata

policies = Table(
    "policies",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("source", Text, nullable=False),
    Column("created_at", MOMENT, nullable=False, server_default=func.now()),
    Column("author", Text, comment="who wrote the source"),
    Column("note", Text, comment="what it is for"),
    Column("origin", Text, nullable=False, server_default="shipped", comment="shipped, file or api"),
)

policy_activations = Table(
    "policy_activations",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("version", Integer, ForeignKey("policies.version"), nullable=False),
    Column("on_day", Date, comment="from which business day it is wanted; null: at once"),
    Column("author", Text, nullable=False),
    Column("reason", Text),
    Column("requested_at", MOMENT, nullable=False, server_default=func.now()),
    Column("activated_at", MOMENT, comment="null until it was put in force"),
    Column("cancelled_at", MOMENT),
    Column("replaced_version", Integer, comment="that was in force before; null until then, and for the first"),
    Index(
        "policy_activations_waiting_idx",
        "on_day",
        postgresql_where=text("activated_at IS NULL AND cancelled_at IS NULL"),
    ),
)

models = Table(
    "models",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("document", Text, nullable=False, comment="JSON, as the trainer wrote it"),
    Column("card", JSONB, nullable=False, comment="of the document: data, cuts, figures"),
    Column("author", Text, nullable=False),
    Column("note", Text, comment="what it is for"),
    Column("refusals", JSONB, comment="[rule, sentence] of those overruled; null for none"),
    Column("forced_because", Text, comment="why they were overruled"),
    Column("created_at", MOMENT, nullable=False, server_default=func.now()),
)

model_activations = Table(
    "model_activations",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("version", Integer, ForeignKey("models.version"), comment="null: no model is in force from then on"),
    Column("kind", Text, nullable=False, comment="activate or rollback"),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("activated_at", MOMENT, nullable=False, server_default=func.now()),
    Column("replaced_version", Integer, comment="that was in force before; null for none"),
)

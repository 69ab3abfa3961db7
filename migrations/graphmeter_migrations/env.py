"""How alembic runs our revisions: on the connection it is handed, inside the transaction that the caller opened."""

from __future__ import annotations

from alembic import context

config = context.config
connection = config.attributes.get("connection")
if connection is None:
    raise SystemExit("run `graphmeter migrate`: revisions are applied over a connection that holds the migration lock")

context.configure(
    connection=connection,
    target_metadata=config.attributes.get("target_metadata"),
    # SQLite cannot alter most of a table in place; batch mode copies it.
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()

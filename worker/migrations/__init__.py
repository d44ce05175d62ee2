"""Alembic migrations, shipped in the package: expand first, contract a release later."""

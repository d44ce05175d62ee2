"""PostgreSQL: what must not be lost."""

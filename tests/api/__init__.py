"""Tests of the web process: a real uvicorn, a real PostgreSQL, a real Redis."""

"""DuckDB, kept in a sandbox, and the expressions that people write for it."""

"""DAG-SONA: a stock PostgreSQL that learns, per query pattern, which settings to run a query with."""

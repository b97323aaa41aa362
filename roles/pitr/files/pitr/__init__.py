"""Point-in-time recovery of the PostgreSQL container, with Barman."""

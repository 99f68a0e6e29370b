"""Storage of results: locations, locks, Parquet parts, the store."""

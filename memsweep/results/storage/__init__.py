"""Where results lie: locations, locks, Parquet parts, the store."""

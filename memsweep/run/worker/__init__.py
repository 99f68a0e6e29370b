"""What a worker does with a pack, and what it writes."""

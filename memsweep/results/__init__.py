"""Parts on disk, tables as readers see them, and SQL over them."""

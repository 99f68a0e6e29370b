"""Networks: layers, cells, scans, sequence models, losses, penalties."""

"""How programs run: fused, compiled or in turn, with what members and memory."""

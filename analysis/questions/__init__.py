"""One module a question: summarize and draw."""

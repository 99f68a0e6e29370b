"""Published claims about memorization, each with a test that can fail; a file a paper."""

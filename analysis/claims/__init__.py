"""Published claims about memorization, each with a test that can fail; one file a paper."""

"""What needs servers, several machines or their like: `make test-cluster` installs it and runs these."""

"""The packed engine: M networks of one program, trained together, each as if it were alone."""

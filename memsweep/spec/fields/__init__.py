"""The fields of a trial: what a field is, their groups, the rules between them, and suggestions for wrong names."""

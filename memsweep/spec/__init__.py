"""What a trial and a sweep are: fields, rules, axes, budget, tables' columns, searches."""

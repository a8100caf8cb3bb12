"""The server's own pages for people: worklist, cases, models, learning, operations."""

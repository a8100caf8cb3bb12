"""Who is asking and what they may do: log-in, tokens, roles, the access check, the audit log."""

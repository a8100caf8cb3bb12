"""The learning loop around training: what is trained on, the hold-out, the round and its publication."""

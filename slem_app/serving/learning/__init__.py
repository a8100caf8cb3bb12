"""Training, batches, scores and the next case to label."""

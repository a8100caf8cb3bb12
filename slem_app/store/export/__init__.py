"""A label store as a training set in one of the public layouts."""

"""The models that this app serves: one file a model, with one ModelConfig class; the file's name is the
model's.
"""

"""Self-supervised pre-training of the segmenter's encoder: tasks, one file each, and their recipes. Runs
without MONAI Label.
"""

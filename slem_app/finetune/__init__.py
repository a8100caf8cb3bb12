"""Supervised training of the segmenter: settings, cases, augmentation, losses, loop. Runs without MONAI
Label.
"""

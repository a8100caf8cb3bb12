"""SLeM Label: segmentation of multi-sequence MRI, served by MONAI Label. Layers and their rules:
docs/architecture.md.
"""

__version__ = "0.1.0"

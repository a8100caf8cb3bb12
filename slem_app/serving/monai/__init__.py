"""MONAI Label: its classes, its routes and the viewer that it ships. No other room imports it."""

"""MONAI Label's classes and routes."""

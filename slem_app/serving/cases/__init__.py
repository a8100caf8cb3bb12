"""The cases that are served: their images, uploads, and which model fits which case."""

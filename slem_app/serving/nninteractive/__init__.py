"""nnInteractive's protocol: its clients (3D Slicer's extension, MITK, napari) drive our models unchanged."""

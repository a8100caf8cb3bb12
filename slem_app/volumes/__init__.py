"""From a study's series to what the network sees, and the geometry to bring results back.

Import the modules themselves: `prepare`, `cache` and `geometry` need numpy and scipy alone, so a training
server without nibabel, pydicom and SimpleITK can train from the cache.
"""

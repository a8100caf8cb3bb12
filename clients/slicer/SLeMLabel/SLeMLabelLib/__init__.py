"""What the module SLeM Label does, apart from its windows.

- `client`: the server's routes; `labelmap`: label maps as files; `strokes`: what is drawn, as voxels
- `session`: a reader's work on one case: prompts, the label map as it was last answered, undo
- `scene`: volumes, segments, marks and views in Slicer's scene; `views`: the 2 x 2 layout
- `opening`: a case as it is fetched; `learning`: how the learning goes, in words
- `controller`: what the buttons do, from the server to the scene; `worker`: requests beside Slicer's windows
- `drawing`: the mouse in slice views; `panel`: the widgets, as `panel_protocol` says

Only `panel` imports Qt. `client`, `session`, `strokes`, `labelmap` and `worker` know nothing of Slicer.
"""

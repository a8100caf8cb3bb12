"""MONAI Label reloads this package with the app, so it holds configuration only; all else is in
`slem_app`.
"""

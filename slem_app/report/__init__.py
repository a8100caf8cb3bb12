"""The page that a reader signs: what was found in one case, its pictures and its numbers, as JSON and PDF.

`contents` holds what a report says, `pictures` draws the slices, `page` sets the PDF.
"""

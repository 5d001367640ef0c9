"""`skinedge report`: the reports of a run's stages as one HTML page and as Markdown.

`sources` reads them, `sections` arranges them into `content`, `page` (with `plots` and `svg`) and `markdown` write it.
"""

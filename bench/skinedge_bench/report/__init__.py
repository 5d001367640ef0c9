"""`skinedge report`: what a run's stages reported, as one HTML page and as Markdown.

sources reads, sections arrange it into content, charts draw, page and markdown write it out.
"""

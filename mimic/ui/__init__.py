"""The studio: a web page on which a motion is fitted to a person, corrected, and generated.

`mimic.ui.studio` does the work and knows nothing of the page, `mimic.ui.page` is the page (Gradio).
"""

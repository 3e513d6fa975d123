"""Reports from evaluation results: an HTML page, the same tables as Markdown, and a model card.

blocks, formatting         tables and charts as data; how figures are written
view, comparison           results in display order; means over datasets, a model against its teacher
accuracy ... appendix      tables and charts of one subject each; `sections` lists them in order
summary                    the comparison with the teacher, in a sentence and in figures
plots, audio_examples      charts as SVG; error examples with audio and word alignments
page, markdown, card       the renderers
"""

from whisperstill.evaluate.report.card import render_card as render_card
from whisperstill.evaluate.report.markdown import render_markdown as render_markdown
from whisperstill.evaluate.report.page import render_page as render_page

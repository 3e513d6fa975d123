"""Everything that is rendered from evaluation results: a page, the same tables as Markdown, a model card.

blocks, numbers, view     what a report is built of, how figures are written, the results in order
summary                   what is said first
accuracy ... appendix     tables and charts, part by part; `sections` puts them in order
plots, audio_*            charts as SVG, sound as mp3, alignments as they are shown
page, markdown, card      the renderers
"""

from whisperstill.evaluate.report.card import render_card as render_card
from whisperstill.evaluate.report.markdown import render_markdown as render_markdown
from whisperstill.evaluate.report.page import render_page as render_page

"""How figures, tables, progress and pages look: each format exists once, and every room uses it.

numbers         percentages, intervals, differences, counts and times as text
visible_text    text from outside, with its invisible characters spelt out
markdown        escaped text, code and tables in Markdown
json_documents  records as JSON
tables          tables on a terminal
progress        progress bars on a terminal
templates       HTML pages from Jinja templates
"""

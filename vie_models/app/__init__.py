"""A page to look at: what an encoder sees in a video, search by example, comparisons. Needs the extra `app`.

`page.py` is the page. Everything that it shows comes from functions of the other files, which know nothing about pages.
"""

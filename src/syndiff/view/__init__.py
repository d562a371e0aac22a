"""A page on which a person looks at a translation: source, synthetic and acquired image linked.

`case.py` reads what is to be seen, `page.py` makes the page, `server.py` serves it on this
machine. The pictures are drawn by NiiVue (`vendor/`), in the browser.
"""

from syndiff.view.case import Case, read_case
from syndiff.view.page import exported, site
from syndiff.view.server import Served, served

__all__ = ["Case", "Served", "exported", "read_case", "served", "site"]

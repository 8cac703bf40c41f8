"""Files as text with headings, pages and metadata; whatever is wrong with one is said of that one."""

from knowledge_base.parsing.limits import Limits
from knowledge_base.parsing.parse import parse
from knowledge_base.parsing.parser import Parser

__all__ = ["Limits", "Parser", "parse"]

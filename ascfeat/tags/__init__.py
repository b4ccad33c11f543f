"""Tags: one number a tag and clip, from a file, a trained run or anybody's callable, matched to a dataset's clips."""

from ascfeat.tags.opening import Given, for_other_clips, open_tags, sources_for, with_tags
from ascfeat.tags.source import KIND, Tagger, TagSource, checked_row, require_source
from ascfeat.tags.table import TagTable, tag_table
from ascfeat.tags.tagger import GROUP, Tagging

__all__ = [
    "GROUP",
    "KIND",
    "Given",
    "TagSource",
    "TagTable",
    "Tagger",
    "Tagging",
    "checked_row",
    "for_other_clips",
    "open_tags",
    "require_source",
    "sources_for",
    "tag_table",
    "with_tags",
]

"""Reference maps: train once, share one file, map anyone's cells, say when they do not belong."""

from rpumap.reference.file import ReferenceFileError as ReferenceFileError
from rpumap.reference.reference_map import ReferenceMap as ReferenceMap

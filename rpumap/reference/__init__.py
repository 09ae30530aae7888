"""Reference maps: train once, share one file, map anyone's cells, say when they do not belong."""

from rpumap.reference.file import ReferenceFileError as ReferenceFileError
from rpumap.reference.onnx_export import export_onnx as export_onnx
from rpumap.reference.reference_map import ReferenceMap as ReferenceMap

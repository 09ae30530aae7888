"""A reference map for other runtimes: one ONNX graph, counts in, coordinates out.

ONNX (https://onnx.ai) is a format of networks that runs without Python and PyTorch: in C++, Java,
R, a browser. The graph holds all that lies between raw counts and the map, in this order:

1. scaling by ``target_sum / library_size``, or by 0 for a cell without counts (float64);
2. z-scores: minus the mean, over the standard deviation; 0 where a count is NaN (float64);
3. the network of Linear and ReLU layers (float32).

Labels, novelty and certificates stay with :class:`rpumap.ReferenceMap`.
"""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError

from rpumap.preprocessing import Preprocessor
from rpumap.reference.file import replace_file
from rpumap.reference.reference_map import ReferenceMap
from rpumap.verification.bounds import linear_layers

# What runtimes since 2022 read. None of the operations changed in a way that matters here since.
OPERATORS, FORMAT = 17, 8
DESCRIPTION = (
    "Places cells on a reference map. counts: raw counts (n_cells, n_genes) of the genes in the "
    "metadata entry rpumap.genes, in this order, NaN for a gene that was not measured; "
    "library_size: (n_cells,), the total counts of each cell in all genes, not only in these; "
    "coordinates: (n_cells, 2)."
)


def export_onnx(ref: ReferenceMap, path: str | os.PathLike) -> None:
    r"""Write a reference map as an ONNX graph, from raw counts to coordinates.

    Parameters
    ----------
    ref : ReferenceMap
        Fitted or loaded.
    path : path-like
        Where, such as ``"pancreas.onnx"``. A file that is there is replaced in one step: at any
        instant the old one or the new one is there, whole.

    Raises
    ------
    ImportError
        If the package onnx is not installed; says how to install it.
    TypeError
        If `ref` is no ReferenceMap, or its network is not of Linear and ReLU layers.
    sklearn.exceptions.NotFittedError
        If it holds no map yet.
    OSError
        If the file cannot be written. What was there before is left as it was.

    Notes
    -----
    The inputs of the graph, for any number of cells:

    ``counts``, float32, (n_cells, n_genes)
        Raw counts of the genes of the reference, in its order. NaN for a gene that was not
        measured, which then stands at its training mean, as in ``ReferenceMap.map``.
    ``library_size``, float32, (n_cells,)
        Total counts of each cell in all genes: those of the reference alone do not give it.

    Its output ``coordinates``, float32, (n_cells, 2), is

    .. math:: f\!\left(\frac{x \, t / L - \mu}{\sigma}\right) ,

    with counts :math:`x`, library size :math:`L`, target sum :math:`t`, mean :math:`\mu` and
    standard deviation :math:`\sigma` of each gene, and the network :math:`f`. It is what
    :meth:`rpumap.ReferenceMap.map` gives, up to the rounding of the network in single precision.
    Counts are not checked: the graph takes logarithms or fractions as it takes counts.

    The metadata of the file hold texts: ``rpumap.genes``, a JSON list of names;
    ``rpumap.target_sum``; ``rpumap.version``, of this package; and ``rpumap.about``, JSON, what
    the reference was made from.

    Examples
    --------
    >>> import importlib.util, pathlib, tempfile
    >>> import rpumap
    >>> adata = rpumap.datasets.pancreas(source="simulated")  # doctest: +ELLIPSIS
    >>> ref = rpumap.ReferenceMap(n_top_genes=50, robust=False).fit(adata[::9], labels="clusters")
    >>> if importlib.util.find_spec("onnx") is not None:
    ...     with tempfile.TemporaryDirectory() as folder:
    ...         rpumap.reference.export_onnx(ref, pathlib.Path(folder) / "pancreas.onnx")

    and where it runs, for example ::

        session = onnxruntime.InferenceSession("pancreas.onnx")
        genes = json.loads(session.get_modelmeta().custom_metadata_map["rpumap.genes"])
        (Z,) = session.run(None, {"counts": counts, "library_size": library_size})
    """
    onnx = _library()
    if not isinstance(ref, ReferenceMap):
        raise TypeError(f"ref must be a fitted ReferenceMap, got {type(ref).__name__}")
    if not hasattr(ref, "about_"):
        raise NotFittedError("this ReferenceMap holds no map yet: call fit, or load a file")
    # By hand, not by torch.onnx.export: that takes seconds, warns of what does not concern this
    # graph, writes paths of the exporting machine into the file, and needs a newer PyTorch than
    # the rest of the package.
    model = onnx.helper.make_model(
        _graph(onnx, ref),
        producer_name="rpumap",
        producer_version=version("rpumap"),
        doc_string=DESCRIPTION,
        opset_imports=[onnx.helper.make_opsetid("", OPERATORS)],
        ir_version=FORMAT,
    )
    about = {
        "genes": json.dumps(ref.preprocessor_.genes_.tolist(), ensure_ascii=False),
        "target_sum": repr(float(ref.preprocessor_.target_sum)),
        "version": version("rpumap"),
        "about": json.dumps(ref.about_, ensure_ascii=False),
    }
    onnx.helper.set_model_props(model, {f"rpumap.{name}": text for name, text in about.items()})
    onnx.checker.check_model(model, full_check=True)
    replace_file(path, model.SerializeToString(deterministic=True))


def _library() -> Any:
    try:
        import onnx
    except ImportError:
        raise ImportError(
            "to write ONNX files the package onnx is needed: pip install 'rpumap[onnx]'"
        ) from None
    return onnx


def _graph(onnx: Any, ref: ReferenceMap) -> Any:
    """Build the graph: each node is an operator with the names of its inputs and its output."""
    helper, number = onnx.helper, onnx.TensorProto
    nodes, constants, z = _z_scores(onnx, ref.preprocessor_)
    layers = linear_layers(ref.model_.encoder_)
    for i, (weight, bias) in enumerate(layers):
        last = i + 1 == len(layers)
        constants |= {f"weight_{i}": weight.detach().numpy(), f"bias_{i}": bias.detach().numpy()}
        out = "coordinates" if last else f"linear_{i}"
        names = [z, f"weight_{i}", f"bias_{i}"]
        nodes.append(helper.make_node("Gemm", names, [out], transB=1))
        if not last:
            z = f"hidden_{i}"
            nodes.append(helper.make_node("Relu", [out], [z]))
    n_genes, n_components = layers[0][0].shape[1], len(layers[-1][0])

    def cells(name: str, *columns: int) -> Any:
        return helper.make_tensor_value_info(name, number.FLOAT, ["n_cells", *columns])

    return helper.make_graph(
        nodes,
        "rpumap",
        inputs=[cells("counts", n_genes), cells("library_size")],
        outputs=[cells("coordinates", n_components)],
        initializer=[
            onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in constants.items()
        ],
    )


def _z_scores(onnx: Any, prep: Preprocessor) -> tuple[list, dict[str, np.ndarray], str]:
    """Give the nodes from counts to z-scores, their constants, and the name of the z-scores.

    In double precision, as in Python: the difference of a scaled count and the mean of its gene
    loses as many digits as the gene varies little, and its rounding is divided by that spread.
    """
    one, two = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
    steps = [
        ("Cast", "counts", "x", {"to": two}),
        ("Cast", "library_size", "size", {"to": two}),
        ("Equal", "size zero", "is_empty", {}),
        ("Div", "target_sum size", "quotient", {}),
        ("Where", "is_empty zero quotient", "scale", {}),  # a cell without counts stays at zero
        ("Unsqueeze", "scale columns", "scale_of_cell", {}),
        ("Mul", "x scale_of_cell", "scaled", {}),
        ("Sub", "scaled mean", "centred", {}),
        ("Div", "centred std", "standardized", {}),
        ("IsNaN", "counts", "is_missing", {}),
        ("Where", "is_missing zero standardized", "present", {}),
        ("Cast", "present", "z", {"to": one}),
    ]
    nodes = [
        onnx.helper.make_node(operator, names.split(), [out], **options)
        for operator, names, out, options in steps
    ]
    constants = {
        "zero": np.array(0.0),
        "target_sum": np.array(float(prep.target_sum)),
        "columns": np.array([1]),
        "mean": prep.mean_.astype(np.float64),
        "std": prep.std_.astype(np.float64),
    }
    return nodes, constants, "z"

"""What a reference consists of: apart, together again, and refused where it does not fit."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

import rpumap
from rpumap.reference.schema import IN_VERSION_1, from_parts, to_parts


@pytest.fixture(scope="module")
def parts():
    draw = np.random.default_rng(0)
    codes = draw.integers(2, size=120)
    counts = draw.poisson(np.where(codes[:, None] == np.arange(40) % 2, 8.0, 2.0))
    adata = AnnData(csr_matrix(counts.astype(np.float32)))
    ref = rpumap.ReferenceMap(n_top_genes=20, robust=False).fit(adata, ["ab"[c] for c in codes])
    return ref.preprocessor_, ref.model_, ref.index_


def test_what_was_taken_apart_comes_together_again(parts):
    header, arrays = to_parts(*parts)
    prep, model, index = from_parts(json.loads(json.dumps(header)), arrays)
    again = to_parts(prep, model, index)
    assert again[0] == header
    assert set(again[1]) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[1][name], array)


def test_infinite_thresholds_are_kept(parts):
    prep, model, index = parts
    header, arrays = to_parts(prep, model, replace(index, threshold=math.inf))
    assert header["threshold"] is None
    assert from_parts(header, arrays)[2].threshold == math.inf


def test_version_1_had_one_space(parts):
    header, arrays = to_parts(*parts)
    old = {name: array for name, array in arrays.items() if not name.startswith("index.1.")}
    for before, name in IN_VERSION_1.items():
        old[before] = old.pop(name)
    index = from_parts(header, old)[2]
    assert len(index.spaces) == 1
    np.testing.assert_array_equal(index.spaces[0].cells, parts[2].spaces[0].cells)


@pytest.mark.parametrize("name", ["index.1.cells", "index.0.usual", "cells.map", "network.0.bias"])
def test_arrays_of_another_size_are_refused(parts, name):
    header, arrays = to_parts(*parts)
    with pytest.raises(ValueError, match=f"{name} must be|to unpack"):
        from_parts(header, arrays | {name: arrays[name][:1]})
    with pytest.raises(ValueError, match=f"{name} must be float"):
        from_parts(header, arrays | {name: arrays[name].astype("float16")})

"""Simulated cells along a branching lineage, from a table of clusters and a table of genes.

Each cell lies on an edge of the lineage tree, at most half-way from its own cluster to a neighbour,
and its mean profile is interpolated between the two. Programmes, such as the cell cycle, move many
genes together. Counts are negative binomial around the mean. What the tables say of a cluster (mean
and dispersion of each gene) holds for its cells as a whole: the share of the variance that edges
and programmes bring is taken off the dispersion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse, special

from rpumap._validation import check_integer

if TYPE_CHECKING:
    from anndata import AnnData

RATE_UNIT = 1e4  # rates are counts per 10,000 counts of library
RATE_FLOOR = 1e-3  # stands for "never seen", as rates are interpolated on the log scale
MIN_DISPERSION = 1e-3
DEFAULTS = {
    "n_cells": 200,
    "log_library_mean": 8.5,
    "log_library_sd": 0.3,
    "crowding": 1.0,
    "crowding_parent": 1.0,
}
DEFAULT_DISPERSION = 0.3
LARGEST_SHARE = 0.5  # of a cell's library, in the genes of the table
N_GENERATED = 300
GENERATED_SEED = 0


def simulate_lineage(
    clusters: Mapping[str, str | None] | pd.DataFrame,
    genes: pd.DataFrame | None = None,
    *,
    n_genes: int | None = None,
    n_cells: int | None = None,
    random_state: int = 0,
) -> AnnData:
    r"""Simulate the counts of cells that differentiate along a tree.

    Parameters
    ----------
    clusters : mapping or DataFrame
        The lineage. A mapping gives each cluster its parent, and None to the root. A DataFrame has
        one row a cluster and the column ``parent``; it may have ``n_cells`` (default 200),
        ``log_library_mean`` and ``log_library_sd`` (of the natural logarithm of the library size;
        8.5 and 0.3), ``programme:<name>``, the standard deviation of a programme's activity in the
        cluster (1), and ``crowding`` and ``crowding_parent`` (1): how many times as densely as on
        an even spread the cluster's own cells, and those of its parent, lie at their boundary.
    genes : DataFrame, optional
        One row a gene. One column a cluster, of that name: the mean rate in counts per 10,000
        counts of library. Optional: ``dispersion:<cluster>`` (default 0.3), the squared coefficient
        of variation of the rate, counting noise apart; ``programme:<name>``, what one unit of the
        programme's activity adds to the gene's log rate.
    n_genes : int, optional
        Number of genes in all (default: those of the table; 300 without one). Genes that the table
        lacks are generated: their log rates change at random along the edges. They depend on the
        tree but not on `random_state`, so two seeds give two samples of one tissue.
    n_cells : int, optional
        Number of cells in all, shared out in proportion to the sizes of the clusters. Default: the
        sum of the sizes.
    random_state : int, default 0
        Seed of the cells.

    Returns
    -------
    AnnData of shape (n_cells, n_genes)
        Counts in ``X`` (CSR, float32). In ``obs``: ``clusters``; ``library_size``, the counts in
        all genes of the imagined cell; and the truth, ``branch`` (the edge on which the cell lies)
        and ``pseudotime`` (0 at the root, 1 at every tip). ``uns["simulated"]`` is True.

    Raises
    ------
    ValueError
        If the lineage is not a tree with one root, if a table lacks a cluster or holds impossible
        numbers, or if `n_cells` or `n_genes` is no integer or too small for the tables.

    Notes
    -----
    A cell of cluster :math:`c` that leans towards its neighbour :math:`k` has the rates

    .. math::
        \log m = {}& (1 - w) \log m_c + w \log m_k \\
        & + \sum_p \left( z_p \ell_p - \tfrac12 s_{cp}^2 \ell_p^2 \right)

    with :math:`w = \tfrac12 u^{1/b}`, :math:`u` uniform on :math:`[0, 1]`, the crowding :math:`b`,
    activities :math:`z_p \sim N(0, s_{cp}^2)` and loadings :math:`\ell_p`. In time the cell is
    :math:`u / 2` of the way from :math:`c` to :math:`k`: crowding says where in time the rates
    change, and leaves the times. The neighbour is the parent or a child, each side for half of the
    cells, and children in proportion to the number of cells below them. The node profiles
    :math:`m_c` are found such that the mean over the cluster is the rate in the table.

    Examples
    --------
    >>> import rpumap
    >>> tree = {"Stem": None, "Blood": "Stem", "Skin": "Stem"}
    >>> adata = rpumap.datasets.simulate_lineage(tree, n_cells=300, n_genes=50)
    >>> adata.shape
    (300, 50)
    >>> list(adata.obs["branch"].cat.categories)
    ['Stem -> Blood', 'Stem -> Skin']
    """
    from anndata import AnnData

    n_cells = None if n_cells is None else check_integer("n_cells", n_cells, least=1)
    n_genes = None if n_genes is None else check_integer("n_genes", n_genes, least=1)
    table = _cluster_table(clusters, n_cells)
    genes = _gene_table(genes, table, n_genes)
    counts, obs = _cells(table, genes, np.random.default_rng(random_state))
    adata = AnnData(counts, obs=obs, var=pd.DataFrame(index=genes.index))
    adata.uns["source"] = "simulated: negative-binomial counts along a branching lineage"
    adata.uns["simulated"] = True
    return adata


def _cluster_table(
    clusters: Mapping[str, str | None] | pd.DataFrame, n_cells: int | None
) -> pd.DataFrame:
    """Check the lineage, fill in defaults, and scale the sizes to `n_cells`."""
    if not isinstance(clusters, Mapping | pd.DataFrame):
        raise TypeError(
            "clusters must be a mapping from each cluster to its parent, or a DataFrame, got "
            f"{type(clusters).__name__}"
        )
    if not isinstance(clusters, pd.DataFrame):
        clusters = pd.DataFrame({"parent": pd.Series(dict(clusters), dtype=object)})
    if "parent" not in clusters:
        raise ValueError("the table of clusters needs the column 'parent'")
    table = clusters.rename(index=str)
    parents = [None if pd.isna(p) or p == "" else str(p) for p in table["parent"]]
    # of dtype object, since a text column turns None into NaN
    table["parent"] = pd.Series(parents, index=table.index, dtype=object)
    for column, default in DEFAULTS.items():
        table[column] = pd.to_numeric(table.get(column, default))
    _check_tree(table["parent"])
    numbers = table[[c for c in table if c in DEFAULTS or str(c).startswith("programme:")]]
    spreads = table.filter(regex="^(log_library_sd$|programme:)").to_numpy(dtype=float)
    crowding = table.filter(regex="^crowding").to_numpy(dtype=float)
    if (
        not np.isfinite(numbers.to_numpy(dtype=float)).all()
        or (table["n_cells"] < 1).any()
        or (spreads < 0).any()
        or (crowding <= 0).any()
    ):
        raise ValueError(
            "the table of clusters must hold finite numbers, sizes of at least 1, standard "
            "deviations of at least 0, and crowding above 0"
        )
    if n_cells is not None:
        if n_cells < len(table):
            raise ValueError(f"n_cells={n_cells} is less than the {len(table)} clusters")
        # largest remainders, after one cell for each cluster
        share = table["n_cells"] / table["n_cells"].sum() * (n_cells - len(table))
        sizes = np.floor(share).astype(int)
        missing = n_cells - len(table) - sizes.sum()
        sizes[(share - sizes).nlargest(missing).index] += 1
        table["n_cells"] = sizes + 1
    table["n_cells"] = table["n_cells"].astype(int)
    return table


def _check_tree(parent: pd.Series) -> None:
    if parent.empty or not parent.index.is_unique:
        raise ValueError("a lineage needs at least one cluster, each named once")
    unknown = sorted(set(parent.dropna()) - set(parent.index))
    if unknown:
        raise ValueError(f"parents that are not clusters themselves: {', '.join(unknown)}")
    roots = parent.index[parent.isna()]
    if len(roots) != 1:
        raise ValueError(f"a lineage has one root (parent None), found {len(roots)}")
    reached = {roots[0]}
    for _ in parent:
        reached |= set(parent.index[parent.isin(reached)])
    if len(reached) < len(parent):
        raise ValueError(f"not below the root: {', '.join(sorted(set(parent.index) - reached))}")


def _gene_table(
    genes: pd.DataFrame | None, table: pd.DataFrame, n_genes: int | None
) -> pd.DataFrame:
    """Check the table of genes and add generated ones up to `n_genes`."""
    if genes is None:
        return _generated_genes(table, N_GENERATED if n_genes is None else n_genes)
    if not isinstance(genes, pd.DataFrame):
        raise TypeError(f"genes must be a DataFrame, got {type(genes).__name__}")
    genes = genes.rename(index=str, columns=str)
    absent = [c for c in table.index if c not in genes]
    if absent:
        raise ValueError(f"the table of genes has no rates for: {', '.join(absent)}")
    rates = genes[list(table.index)].to_numpy(dtype=float)
    if not np.isfinite(rates).all() or (rates < 0).any() or not genes.index.is_unique:
        raise ValueError("rates must be finite and not negative, and each gene named once")
    if not len(genes):
        raise ValueError("the table of genes is empty")
    dispersions = genes.filter(regex="^dispersion:").to_numpy(dtype=float)
    loadings = genes.filter(regex="^programme:").to_numpy(dtype=float)
    if (dispersions < 0).any() or np.isinf(dispersions).any() or not np.isfinite(loadings).all():
        raise ValueError("dispersions must be finite and not negative, and programmes finite")
    n_more = 0 if n_genes is None else n_genes - len(genes)
    if n_more < 0:
        raise ValueError(f"n_genes={n_genes} is less than the {len(genes)} genes of the table")
    if not n_more:
        return genes
    generated = _generated_genes(table, n_more)
    generated.index = [
        f"{name}_generated" if name in genes.index else name for name in generated.index
    ]
    both = pd.concat([genes, generated])
    programmes = [column for column in both if column.startswith("programme:")]
    return both.fillna(dict.fromkeys(programmes, 0.0))


def _generated_genes(table: pd.DataFrame, n_genes: int) -> pd.DataFrame:
    """Genes whose log rates take a few random steps along the tree, in three programmes."""
    rng = np.random.default_rng(GENERATED_SEED)
    log_rate = {}
    waiting = [table.index[table["parent"].isna()][0]]
    while waiting:
        name = waiting.pop(0)
        parent = table.at[name, "parent"]
        if parent is None:
            log_rate[name] = rng.normal(-0.5, 1.3, n_genes)
        else:
            changes = rng.random(n_genes) < 0.15
            log_rate[name] = log_rate[parent] + changes * rng.normal(0, 1.2, n_genes)
        waiting += list(table.index[table["parent"] == name])
    genes = pd.DataFrame(log_rate)[list(table.index)].pipe(np.exp)
    for name in ("a", "b", "c"):
        used = rng.random(n_genes) < 0.4
        genes[f"programme:{name}"] = used * rng.normal(0, 0.35, n_genes)
    genes.index = [f"gene_{i + 1}" for i in range(n_genes)]
    return genes


def _cells(
    table: pd.DataFrame, genes: pd.DataFrame, rng: np.random.Generator
) -> tuple[sparse.csr_matrix, pd.DataFrame]:
    """Draw all cells: counts and the truth, in random order."""
    programmes = [column for column in genes if column.startswith("programme:")]
    loadings = genes[programmes].to_numpy().T
    spreads = table.reindex(columns=programmes, fill_value=1.0).to_numpy(dtype=float)
    lean = _leanings(table)
    crowding = _crowding(table)
    nodes, dispersion = _node_profiles(
        table, genes, lean, crowding, np.exp(spreads**2 @ loadings**2)
    )
    share = genes[list(table.index)].to_numpy(dtype=float).sum(axis=0) / RATE_UNIT
    times = _pseudotimes(table["parent"])
    parent = table.index.get_indexer(table["parent"])

    counts, obs = [], []
    for c, row in enumerate(table.itertuples()):
        n = row.n_cells
        other = rng.choice(len(table), size=n, p=lean[c])
        way = rng.uniform(size=n)
        weight = 0.5 * way ** (1 / crowding[c, other])
        library = np.rint(rng.lognormal(row.log_library_mean, row.log_library_sd, size=n))
        activity = spreads[c] * rng.normal(size=(n, len(programmes)))
        log_mean = nodes[c] + weight[:, None] * (nodes[other] - nodes[c])
        log_mean += activity @ loadings - 0.5 * spreads[c] ** 2 @ loadings**2
        rate = np.exp(log_mean)
        # programmes have long tails, but a few genes cannot take all of a cell's library
        most = RATE_UNIT * max(LARGEST_SHARE, 2 * share[c])
        rate *= np.minimum(1, most / rate.sum(axis=1))[:, None]
        noise = rng.standard_gamma(1 / dispersion[c], size=rate.shape) * dispersion[c]
        drawn = rng.poisson(rate * noise * (library / RATE_UNIT)[:, None])
        counts.append(sparse.csr_matrix(drawn, dtype=np.float32))
        truth = {
            "clusters": c,
            "library_size": np.maximum(library, drawn.sum(axis=1)),
            "branch": np.where(other == parent[c], c, other),  # an edge is named by its lower end
            "pseudotime": (1 - way / 2) * times[c] + way / 2 * times[other],
        }
        obs.append(pd.DataFrame(truth))

    order = rng.permutation(sum(block.shape[0] for block in counts))
    frame = pd.concat(obs).iloc[order]
    frame.index = [f"simulated_{i}" for i in range(len(frame))]
    frame["clusters"] = pd.Categorical.from_codes(frame["clusters"], table.index)
    edges = [f"{p} -> {c}" if p else c for c, p in table["parent"].items()]
    branch = pd.Categorical.from_codes(frame["branch"], edges)
    frame["branch"] = branch.remove_unused_categories()
    return sparse.vstack(counts, format="csr")[order], frame


def _leanings(table: pd.DataFrame) -> np.ndarray:
    """Probability, shape (n_clusters, n_clusters), that a cell of the row leans to the column."""
    parent = table.index.get_indexer(table["parent"])
    below = table["n_cells"].to_numpy(dtype=float)
    for c in np.argsort(-_depths(parent), kind="stable"):  # the deepest first
        if parent[c] >= 0:
            below[parent[c]] += below[c]
    lean = np.zeros((len(table), len(table)))
    for c in range(len(table)):
        children = np.flatnonzero(parent == c)
        if parent[c] >= 0:
            lean[c, parent[c]] = 0.5 if len(children) else 1.0
        if len(children):
            lean[c, children] = (1 - lean[c].sum()) * below[children] / below[children].sum()
        if not lean[c].any():
            lean[c, c] = 1.0  # a lone cluster
    return lean


def _crowding(table: pd.DataFrame) -> np.ndarray:
    """Crowding of the row's cells at the boundary to the column, (n_clusters, n_clusters)."""
    crowding = np.ones((len(table), len(table)))
    for c, p in enumerate(table.index.get_indexer(table["parent"])):
        if p >= 0:
            crowding[c, p] = table["crowding"].iloc[c]
            crowding[p, c] = table["crowding_parent"].iloc[c]
    return crowding


def _depths(parent: np.ndarray) -> np.ndarray:
    depth = np.zeros(len(parent), dtype=int)
    up = parent.copy()
    while (up >= 0).any():
        depth += up >= 0
        up = np.where(up >= 0, parent[up], -1)
    return depth


def _pseudotimes(parents: pd.Series) -> np.ndarray:
    """Time of each node: equal steps from the root along the longest way down, 1 at every tip."""
    parent = parents.index.get_indexer(parents)
    downwards = np.argsort(_depths(parent), kind="stable")
    height = np.zeros(len(parent))
    for c in downwards[:0:-1]:
        height[parent[c]] = max(height[parent[c]], height[c] + 1)
    times = np.zeros(len(parent))
    for c in downwards[1:]:
        times[c] = times[parent[c]] + (1 - times[parent[c]]) / (1 + height[c])
    return times


def _node_profiles(
    table: pd.DataFrame,
    genes: pd.DataFrame,
    lean: np.ndarray,
    crowding: np.ndarray,
    programme_spread: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Log rates at the nodes, and dispersions, that give each cluster the moments of the table."""
    target = np.log(np.maximum(genes[list(table.index)].to_numpy(dtype=float).T, RATE_FLOOR))
    nodes = target.copy()
    for _ in range(max(30, int(8 * crowding.max()))):  # crowded cells hardly move with their node
        nodes += 0.7 * (target - np.log(_moment(nodes, lean, crowding)))
        nodes = np.maximum(nodes, np.log(RATE_FLOOR) - 3)  # out of reach between high neighbours
    columns = [f"dispersion:{c}" for c in table.index]
    wanted = genes.reindex(columns=columns).fillna(DEFAULT_DISPERSION).to_numpy(dtype=float).T
    squares, means = (_moment(k * nodes, lean, crowding) for k in (2, 1))
    spread = squares / means**2 * programme_spread
    return nodes, np.maximum((1 + wanted) / spread - 1, MIN_DISPERSION)


def _moment(nodes: np.ndarray, lean: np.ndarray, crowding: np.ndarray) -> np.ndarray:
    """Mean of ``exp((1 - w) nodes[c] + w nodes[k])`` over w and over k, for each c."""
    half_step = (nodes[None] - nodes[:, None]) / 2
    # the mean of exp(x u^(1/b)) over u in [0, 1]; (exp(x) - 1) / x where b is 1
    b = crowding[:, :, None]
    growth = special.hyp1f1(b, b + 1, half_step, where=lean[:, :, None] > 0, out=half_step)
    return np.exp(nodes) * np.einsum("ck,ckg->cg", lean, growth)

"""From stimuli to scores: `python examples/ridge_regression.py FEATURES.nc [--responses R.npy] [--picture P.png]`.

FEATURES.nc is a table that `vie neuro features` wrote. R.npy holds the responses of V voxels to the time bins that have values,
[bins, V], in the order of the table: presentation by presentation. Without it, synthetic voxels respond to random mixtures of
one layer (--layer), later than the stimulus (--lag bins) and with noise; so the regression should name that layer.

For each layer, fits a ridge regression on all but one part of each presentation and predicts that part; the score of a voxel is
the correlation of its predicted and its true response. Needs scikit-learn and matplotlib.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vie_models.neuro import load_stimulus_features

PARTS = 4


def synthetic_responses(x: np.ndarray, places: np.ndarray, lag: int, voxels: int = 40) -> np.ndarray:
    """Returns responses [bins, voxels] to the features `lag` bins earlier, with as much noise as signal."""
    rng = np.random.default_rng(0)
    signal = StandardScaler().fit_transform(delayed(x, places, lag)) @ rng.normal(size=(x.shape[1], voxels))
    return signal / signal.std(0) + rng.normal(size=signal.shape)


def delayed(x: np.ndarray, places: np.ndarray, lag: int) -> np.ndarray:
    """Returns features `lag` bins earlier in the same presentation, or those of its first bin."""
    rows = np.arange(len(x))
    return x[rows - np.minimum(lag, places)]


def scores(x: np.ndarray, y: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Returns the correlation of predicted and true responses of each voxel, over the parts left out in turn."""
    predicted = np.empty_like(y)
    for part in range(PARTS):
        test = parts == part
        fit = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 11))).fit(x[~test], y[~test])
        predicted[test] = fit.predict(x[test])
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, y.T, strict=True)])


def main() -> None:
    """Fits one regression per layer, prints the scores and draws them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path, help="table of features, .nc")
    parser.add_argument("--responses", type=Path, help="responses of voxels, .npy [bins, V] (default: synthetic)")
    parser.add_argument("--layer", help="layer that synthetic voxels respond to (default: the one in the middle)")
    parser.add_argument("--lag", type=int, default=2, help="time bins from a stimulus to its response")
    parser.add_argument("--picture", type=Path, help="file for a picture of the scores")
    args = parser.parse_args()
    with load_stimulus_features(args.features) as table:
        bins = table.time_bins.values
        values = np.concatenate([table[p, :, : bins[p]].values.T for p in range(len(bins))])  # [bins, neuroids]
        layer_of = table.layer.values
    places = np.concatenate([np.arange(count) for count in bins])
    parts = np.concatenate([np.arange(count) * PARTS // count for count in bins if count])  # neighbors in time stay together
    layers = list(dict.fromkeys(layer_of))
    truth = args.layer or layers[len(layers) // 2]
    if args.responses:
        y = np.load(args.responses)
    else:
        y = synthetic_responses(values[:, layer_of == truth], places, args.lag)
    found = {layer: scores(delayed(values[:, layer_of == layer], places, args.lag), y, parts) for layer in layers}
    for layer, r in found.items():
        print(f"{layer}: median r {np.median(r):.3f} over {len(r)} voxels")
    print(f"best: {max(found, key=lambda layer: np.median(found[layer]))}" + ("" if args.responses else f"; true: {truth}"))
    if args.picture:
        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(6, 3), layout="constrained")
        axes.boxplot(list(found.values()))
        axes.set_xticks(range(1, len(layers) + 1), layers)
        axes.set(ylabel="correlation with the response", title="Ridge regression from each layer")
        figure.savefig(args.picture, dpi=150)


if __name__ == "__main__":
    main()

"""The one vocabulary of axes: every array of vitdyn is described in these words.

Leading axes come in the order frame, seed, sample. ``query_area`` and ``key_area`` are areas met in
the role of attending and of attended position; ``statistic`` runs over mean, minimum and maximum.
Area index 0 is the global area (the literature's area 1).
"""

FRAME = "frame"
SEED = "seed"
CLUSTER = "cluster"
AREA = "area"
QUERY_AREA = "query_area"
KEY_AREA = "key_area"
QUERY = "query"
KEY = "key"
PATCH = "patch"
SAMPLE = "sample"
STATISTIC = "statistic"
TRAINING_STEP = "training_step"
LAYER = "layer"
HEAD = "head"

STATISTICS = ("mean", "minimum", "maximum")
GLOBAL_AREA = 0

"""The same source partitions, partition count and seed give the same bits, whoever computes."""

import numpy as np
import pytest
from cluster_helpers import run_script

from sparknn.classification import MultilayerPerceptronClassifier


@pytest.fixture(scope="module")
def here(digits_file, tmp_path_factory) -> dict[str, str]:
    """Fingerprints of several fits in local[2]."""
    local_dir = tmp_path_factory.mktemp("local")
    found = run_script("fingerprints.py", "local[2]", digits_file, local_dir, PYTHONHASHSEED="0")
    # The comparisons below can fail: every fit gives weights of its own.
    assert len(set(found.values())) == len(found) == 6
    return found


@pytest.mark.cluster
@pytest.mark.parametrize(
    "master, environment",
    [
        ("local[1]", {}),
        ("local[4]", {"PYTHONHASHSEED": "12345"}),
        ("local-cluster[2,1,1024]", {"PYTHONHASHSEED": "999"}),
    ],
)
def test_the_same_bits_on_any_number_of_cores_and_with_any_hash_seed(
    here, digits_file, tmp_path, master, environment
):
    assert run_script("fingerprints.py", master, digits_file, tmp_path, **environment) == here


@pytest.mark.cluster
def test_the_same_bits_on_a_driver_with_one_thread_of_linear_algebra(here, digits_file, tmp_path):
    found = run_script(
        "fingerprints.py", "local[2]", digits_file, tmp_path, "l-bfgs", OPENBLAS_NUM_THREADS="1"
    )
    assert found["l-bfgs"] == here["l-bfgs"]


def test_a_fit_repeated_in_one_session_gives_the_same_bits_unless_the_seed_differs(digits):
    def weights(**params) -> np.ndarray:
        classifier = MultilayerPerceptronClassifier(
            layers=[64, 12, 10], solver="sgd", maxIter=1, blockSize=16, dropout=0.1
        )
        return classifier.setParams(**params).fit(digits).weights.toArray()

    first = weights()
    np.testing.assert_array_equal(first, weights())
    np.testing.assert_array_equal(first, weights(seed=1))
    assert (first != weights(seed=2)).any()

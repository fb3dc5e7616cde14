"""Writes test/privacy/accountant-vectors.json: epsilons by dp-accounting and Opacus, for the tests of the accountant.

    python -m venv /tmp/accountants && /tmp/accountants/bin/pip install dp-accounting==0.6.0 opacus==1.6.0
    /tmp/accountants/bin/python scripts/parity/accountant_vectors.py

Every case lists mechanisms that run one after the other on the same units. `rdp` is the epsilon at the integer orders
that FlexMesh uses, `order` its order; `opacus` is that of Opacus at the same orders, which it computes independently;
`lower` and `upper` enclose the smallest epsilon: dp-accounting's privacy loss distributions, rounded down and up.
Both packages are under the Apache License 2.0; the file holds only numbers that they computed.
"""

import json
from importlib.metadata import version
from pathlib import Path

import dp_accounting as dp
from dp_accounting import pld, rdp
from opacus.accountants.analysis import rdp as opacus

ORDERS = [*range(2, 257), 512, 1024]
# Sample rate, noise multiplier, steps of every mechanism; delta; grid of the privacy loss.
CASES = [
    ([(1, 1, 1)], 1e-5, 1e-4),
    ([(1, 4.530877117, 1)], 1e-6, 1e-4),
    ([(1, 0.7, 2)], 1e-5, 1e-4),
    ([(1, 5, 100)], 1e-6, 1e-4),
    ([(150 / 60000, 1.3, 6000)], 1e-5, 1e-5),
    ([(0.001, 1.0, 30000)], 1e-7, 1e-6),
    ([(0.04, 1.5, 2250)], 1e-5, 1e-4),
    ([(0.01, 0.7, 120)], 1e-5, 1e-4),
    ([(0.0064, 1.0, 782)], 1e-6, 1e-5),
    ([(256 / 60000, 1.1, 14062)], 1e-5, 1e-5),
    ([(0.01, 4, 10000)], 1e-5, 1e-5),
    ([(64 / 2000, 1.24, 200)], 1 / 20000, 1e-5),
    ([(256 / 8000, 0.7, 200)], 1 / 80000, 1e-4),
    ([(256 / 20000, 1.19, 1000)], 1 / 200000, 1e-5),
    ([(256 / 100000, 0.46, 200)], 1e-6, 1e-4),
    ([(0.5, 3, 50)], 1e-5, 1e-4),
    ([(0.9, 10, 300)], 1e-6, 1e-4),
    ([(64 / 300, 4, 60)], 1 / 3000, 1e-4),
    ([(1e-5, 1, 10), (1e-4, 3, 4)], 1e-5, 1e-6),
    ([(0.02, 1.1, 300), (0.02, 1.1, 300)], 1e-5, 1e-5),
    ([(0.02, 1.1, 300), (1, 6, 1)], 1e-5, 1e-5),
    ([(0.1, 2, 100), (0.03, 0.9, 200), (1, 10, 3)], 1e-6, 1e-4),
]


def event(mechanisms):
    """The mechanisms one after the other, as dp-accounting describes them."""
    return dp.ComposedDpEvent(
        [
            dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise)), steps)
            for rate, noise, steps in mechanisms
        ]
    )


def by_distribution(mechanisms, delta, grid, pessimistic):
    """Epsilon by privacy loss distributions that are rounded to one side."""
    total = None
    for rate, noise, steps in mechanisms:
        one = pld.privacy_loss_distribution.from_gaussian_mechanism(
            noise,
            sampling_prob=rate,
            value_discretization_interval=grid,
            pessimistic_estimate=pessimistic,
            use_connect_dots=pessimistic,
        ).self_compose(steps)
        total = one if total is None else total.compose(one)
    return total.get_epsilon_for_delta(delta)


def case(mechanisms, delta, grid):
    accountant = rdp.RdpAccountant(ORDERS)
    accountant.compose(event(mechanisms))
    epsilon, order = accountant.get_epsilon_and_optimal_order(delta)
    theirs = sum(
        opacus.compute_rdp(q=rate, noise_multiplier=noise, steps=steps, orders=ORDERS)
        for rate, noise, steps in mechanisms
    )
    independent, _ = opacus.get_privacy_spent(orders=ORDERS, rdp=theirs, delta=delta)
    return {
        "mechanisms": [
            {"sampleRate": rate, "noiseMultiplier": noise, "steps": steps} for rate, noise, steps in mechanisms
        ],
        "delta": delta,
        "rdp": float(epsilon),
        "order": int(order),
        "opacus": float(independent),
        "lower": float(by_distribution(mechanisms, delta, grid, False)),
        "upper": float(by_distribution(mechanisms, delta, grid, True)),
    }


def main():
    path = Path(__file__).parents[2] / "test" / "privacy" / "accountant-vectors.json"
    vectors = {
        "source": f"dp-accounting {version('dp-accounting')}, opacus {version('opacus')} (Apache-2.0)",
        "cases": [case(*parameters) for parameters in CASES],
    }
    path.write_text(json.dumps(vectors, indent=2) + "\n")


main()

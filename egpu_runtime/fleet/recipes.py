"""What each kind of made-up workload does: its quota, its load over the week, its growth. All shares are of one card.

Every curve is bounded, so that the past tells the future: a load reaches its peak on every working day, noise
only takes away from it, and growth is linear and goes on.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from egpu_runtime.contract.units import MIB
from egpu_runtime.fleet.fleet_spec import DAY_SECONDS, Role
from egpu_runtime.fleet.trace import Booleans, Floats, Integers

Rhythm = Literal["flat", "day", "night", "office"]
Span = tuple[float, float]

WEEK_DAYS: Final = 7
_SATURDAY: Final = 5
_HOUR_SECONDS: Final = 3600
_WARM_UP_SAMPLES: Final = 4
"""A new pod loads its model over so many samples."""

_HEALTH_CHECK_SAMPLES: Final = 5
"""An idle service still answers a health check every so many samples, so it is never idle for an hour."""

_NOISE_WIDTH: Final = 5
"""Samples over which noise is averaged: load has inertia."""

_SERVING_WOBBLE: Final = 0.5
_TRAINING_WOBBLE: Final = 0.05
"""Share of the compute that noise takes away: requests come unevenly, training steps do not."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Spans from which a workload's numbers are drawn; ``weekend`` is the load's share on Saturday and Sunday."""

    memory_base: Span
    memory_peak: Span
    core_base: Span
    core_peak: Span
    rhythm: Rhythm = "day"
    weekend: float = 0.7
    growth_per_week: Span = (0.0, 0.0)
    quota_share: float = 1.0
    replicas: int = 1
    kind: str = "Deployment"


_TINY_CORE: Final = (0.0, 0.0)

RECIPES: Final[dict[Role, Recipe]] = {
    "idle": Recipe((0.14, 0.16), (0.17, 0.20), _TINY_CORE, (0.03, 0.06)),
    "daytime": Recipe((0.20, 0.30), (0.40, 0.50), (0.14, 0.18), (0.35, 0.55)),
    # Too large by its slice for anybody else's card, next to nothing when it sleeps: only its like fits beside it.
    "pair": Recipe((0.02, 0.03), (0.83, 0.85), (0.14, 0.18), (0.50, 0.60), weekend=0.95),
    "growing": Recipe((0.15, 0.20), (0.35, 0.42), (0.10, 0.14), (0.30, 0.40), growth_per_week=(0.04, 0.07)),
    # A pre-allocating framework takes its share at once and keeps it (vLLM's default is 0.9).
    "preallocating": Recipe((0.92, 0.92), (0.92, 0.92), (0.14, 0.18), (0.40, 0.60)),
    "training": Recipe((0.84, 0.86), (0.87, 0.89), (0.90, 0.92), (0.99, 1.0), rhythm="flat", kind="Job"),
    "replicated": Recipe((0.20, 0.25), (0.30, 0.38), (0.14, 0.18), (0.35, 0.50), replicas=3),
    "crowded": Recipe((0.08, 0.10), (0.14, 0.18), (0.06, 0.08), (0.15, 0.20), quota_share=0.5, replicas=2),
    "restarting": Recipe((0.20, 0.25), (0.30, 0.38), (0.14, 0.18), (0.35, 0.50)),
    "young": Recipe((0.10, 0.15), (0.20, 0.25), (0.08, 0.10), (0.20, 0.30)),
    "unobserved": Recipe((0.10, 0.15), (0.20, 0.30), (0.08, 0.10), (0.20, 0.30)),
    # Large weights that stay on the card and full compute by day: nothing to cut, nobody fits beside it, but at night
    # it computes nothing at all.
    "night_idle": Recipe((0.68, 0.72), (0.84, 0.87), (0.30, 0.35), (0.88, 0.95), rhythm="office", weekend=1.0),
    "busy": Recipe((0.24, 0.28), (0.43, 0.46), (0.12, 0.16), (0.45, 0.48), weekend=0.8, quota_share=0.5),
}
"""Recipe of each kind. The second half of a pair has the rhythm ``night``. Compute that is not idle at night is there
above 10 % of its peak, noise taken away: it must not look like a night."""

_CENTRE_AND_HALF_WIDTH_HOURS: Final = {"day": (14.0, 6.0), "night": (2.0, 5.0), "office": (13.5, 6.5)}
"""Hours UTC: day runs 08-20 h and night 21-07 h, so the two never meet; office runs 07-20 h."""


@dataclass(frozen=True, slots=True)
class Load:
    """One replica's numbers, drawn from its recipe; shares of the card, growth per week of the whole curve."""

    role: Role
    rhythm: Rhythm
    memory_base: float
    memory_peak: float
    core_base: float
    core_peak: float
    weekend: float
    growth_per_week: float


def draw_load(role: Role, rhythm: Rhythm, generator: np.random.Generator) -> Load:
    """Numbers for one replica of a workload of a kind."""
    recipe = RECIPES[role]
    return Load(
        role=role,
        rhythm=rhythm,
        memory_base=float(generator.uniform(*recipe.memory_base)),
        memory_peak=float(generator.uniform(*recipe.memory_peak)),
        core_base=float(generator.uniform(*recipe.core_base)),
        core_peak=float(generator.uniform(*recipe.core_peak)),
        weekend=recipe.weekend,
        growth_per_week=float(generator.uniform(*recipe.growth_per_week)),
    )


def busy_share(rhythm: Rhythm, second_of_week: Integers, weekend: float) -> Floats:
    """Load over the week, 0-1: a raised cosine a day around its centre, exactly 0 outside; weekends are lower.

    ``second_of_week`` counts from Monday 00:00 UTC.
    """
    if rhythm == "flat":
        return np.ones(len(second_of_week))
    centre, half_width = _CENTRE_AND_HALF_WIDTH_HOURS[rhythm]
    hour = (second_of_week % DAY_SECONDS) / _HOUR_SECONDS
    away = np.abs((hour - centre + 12.0) % 24.0 - 12.0)
    share = np.where(away < half_width, 0.5 + 0.5 * np.cos(np.pi * away / half_width), 0.0)
    on_weekend: Booleans = second_of_week // DAY_SECONDS >= _SATURDAY
    return share * np.where(on_weekend, weekend, 1.0)


def _noise(count: int, generator: np.random.Generator) -> Floats:
    """Smooth noise in [0, 1] that comes to its bounds often."""
    white = generator.standard_normal(count + _NOISE_WIDTH - 1)
    smooth = np.convolve(white, np.full(_NOISE_WIDTH, 1.0 / _NOISE_WIDTH**0.5), "valid")
    return np.clip(0.5 + 0.35 * smooth, 0.0, 1.0)


def curves(
    load: Load, sample: Integers, *, sample_seconds: int, age_samples: Integers, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Memory and compute use, as shares of the card, at sample numbers (0 = Monday 00:00 UTC of the first week).

    ``age_samples``: samples since the pod started. Both curves stay within the load's peaks.
    """
    seconds = sample * sample_seconds
    second_of_week: Integers = seconds % (WEEK_DAYS * DAY_SECONDS)
    busy = busy_share(load.rhythm, second_of_week, load.weekend)
    demand = busy * (1.0 - 0.15 * _noise(len(sample), generator))
    growth = 1.0 + load.growth_per_week * seconds / (WEEK_DAYS * DAY_SECONDS)
    memory = (load.memory_base + (load.memory_peak - load.memory_base) * demand) * growth
    memory *= np.minimum(1.0, (age_samples + 1) / _WARM_UP_SAMPLES)
    wobble = _TRAINING_WOBBLE if load.role == "training" else _SERVING_WOBBLE
    jitter = 1.0 - wobble * _noise(len(sample), generator)
    core = (load.core_base + (load.core_peak - load.core_base) * demand) * jitter
    if load.role == "idle":
        asked = sample % _HEALTH_CHECK_SAMPLES == 0
        core = np.where(asked, 0.01 + load.core_peak * demand, 0.0)
    elif load.role == "night_idle":
        core = np.where(busy > 0, core, 0.0)
    return memory, np.minimum(core, 1.0)


def grained(memory_share: Floats, core_share: Floats, card_bytes: int) -> tuple[Floats, Floats]:
    """As a driver reports: memory in whole MiB (bytes), compute in whole percent (share), rounded up from above 0."""
    memory = np.floor(memory_share * (card_bytes / MIB)) * MIB
    return memory, np.ceil(np.maximum(core_share * 100 - 1e-9, 0.0)) / 100

"""Our import names are ours alone: no other installed distribution owns one."""

from importlib.metadata import packages_distributions

OURS = ("egpu_runtime", "collector", "pipeline", "advisor")


def test_no_other_distribution_owns_our_names() -> None:
    owners = packages_distributions()
    strangers = {name: set(owners.get(name, [])) - {"effective-gpu"} for name in OURS}
    assert strangers == {name: set() for name in OURS}

"""Constructor arguments, checked in `fit`: scikit-learn's constructors only store."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from lastlayer._arrays import InputError
from lastlayer.linear import available_threads


def check_number(value: Any, name: str, low: float, *, above: bool = False, infinite: bool = False) -> float:
    """A real number of at least `low` (greater than `low` when `above`), infinite only where allowed.

    >>> check_number(1, "C", 0.0, above=True)
    1.0
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise InputError(f"{name} is {value!r}; a number is needed")
    number = float(value)
    fits = number > low if above else number >= low
    if not fits or (np.isinf(number) and not infinite):
        least = f"{'greater than' if above else 'of at least'} {low:g}"
        raise InputError(f"{name} is {value!r}; a {'' if infinite else 'finite '}number {least} is needed")
    return number


def check_count(value: Any, name: str, low: int = 0) -> int:
    """A whole number of at least `low`.

    >>> check_count(100, "max_iter")
    100
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral) or int(value) < low:
        raise InputError(f"{name} is {value!r}; a whole number of at least {low} is needed")
    return int(value)


def check_flag(value: Any, name: str) -> bool:
    """True or False.

    >>> check_flag(True, "fit_intercept")
    True
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} is {value!r}; True or False is needed")
    return bool(value)


def check_seed(random_state: Any) -> int:
    """One whole number for `numpy.random.default_rng`, from any `random_state` that scikit-learn takes.

    >>> check_seed(7)
    7
    """
    if isinstance(random_state, Integral):
        return check_count(random_state, "random_state")
    try:
        generator = check_random_state(random_state)
    except ValueError:
        raise InputError(
            f"random_state is {random_state!r}; a whole number, a numpy.random.RandomState or None is needed"
        ) from None
    return int(generator.randint(2**31 - 1))


def check_threads(n_jobs: Any) -> int | None:
    """Threads as joblib counts them: None or -1 for all cores, -2 for all but one.

    >>> check_threads(2)
    2
    """
    if n_jobs is None or (isinstance(n_jobs, Integral) and int(n_jobs) == -1):
        return None
    if not isinstance(n_jobs, Integral) or int(n_jobs) == 0:
        raise InputError(f"n_jobs is {n_jobs!r}; a whole number other than 0, or None, is needed")
    count = int(n_jobs)
    return count if count > 0 else max(1, available_threads() + 1 + count)

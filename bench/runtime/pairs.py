"""How two servers are compared, decided before anything was measured with it.

A round measures every column once, in an order drawn at random; the first round is dropped. A pair is one round's native step
over the same round's other step, as a logarithm. The estimate is the mean of the pairs without the lowest and highest fifth; its
95 percent interval is Student's t with the winsorised deviation (Tukey and McLaughlin 1963, Yuen 1974). The number of rounds
follows from a time that is set beforehand, never from the result. A fifth, because the machine at hand stops for 15 to 70 ms about
every 1.5 s, in native as in the others (raw/parity-first.json): windows of 0.2 s are hit seldom enough for that.

A second estimate looks between the stops, which only ever add time: the lower quartile of native's windows over that of the other's,
with the percentile bootstrap's 95 percent interval. It decides nothing.
"""

import math
import random
import statistics

TRIM = 0.2
GOAL, WORST = 0.98, 0.97  # of native: the estimate must reach the one, its interval must exclude the other


def student(freedom: int) -> float:
    """The 97.5 percent point of Student's t, by its expansion in 1 / freedom (Abramowitz and Stegun 26.7.5; 0.1 percent off at 6)."""
    x = 1.959964
    terms = (x**3 + x) / 4, (5 * x**5 + 16 * x**3 + 3 * x) / 96, (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384, (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160
    return x + sum(term / freedom ** (i + 1) for i, term in enumerate(terms))


def trimmed(values: list[float]) -> tuple[float, float]:
    """Trimmed mean and half its 95 percent interval."""
    ordered, n = sorted(values), len(values)
    cut = int(TRIM * n)
    kept = ordered[cut:n - cut]
    winsorised = [kept[0]] * cut + kept + [kept[-1]] * cut
    error = statistics.stdev(winsorised) / ((1 - 2 * cut / n) * math.sqrt(n))
    return statistics.mean(kept), student(len(kept) - 1) * error


def between_stops(native: list[float], other: list[float]) -> tuple[float, float, float]:
    """Speed of OTHER against NATIVE by lower quartiles, and its 95 percent interval."""
    dice = random.Random(11)

    def quartile(values: list[float]) -> float:
        return statistics.quantiles(values, n=4, method="inclusive")[0]

    drawn = sorted(quartile(dice.choices(native, k=len(native))) / quartile(dice.choices(other, k=len(other))) for _ in range(2000))
    return quartile(native) / quartile(other), drawn[49], drawn[1949]


def compare(native: list[float], other: list[float]) -> dict:
    """Speed of OTHER against NATIVE, step times of the same rounds; 1 is equal, above is faster."""
    logs = [math.log(a / b) for a, b in zip(native, other, strict=True)]
    middle, half = trimmed(logs)
    low, high = math.exp(middle - half), math.exp(middle + half)
    return {"speed": round(math.exp(middle), 4), "between_stops": [round(v, 4) for v in between_stops(native, other)], "low": round(low, 4), "high": round(high, 4), "pairs": len(logs),
            "mean": round(math.exp(statistics.mean(logs)), 4), "median": round(math.exp(statistics.median(logs)), 4), "met": math.exp(middle) >= GOAL and low >= WORST}

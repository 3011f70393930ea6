"""What many noisy ratios say together, and how sure one can be of it."""
import statistics

ONE_IN_TWENTY = 1.645  # standard deviations of a normal distribution, one side


def estimate(ratios):
    """(middle, least, most): the median of the means of each two of them (Hodges and
    Lehmann); the truth is below `least` one time in twenty, and above `most` as often
    (the signed ranks of Wilcoxon). Far outliers move neither."""
    count = len(ratios)
    means = sorted((ratios[i] + ratios[j]) / 2 for i in range(count) for j in range(i, count))
    spread = (count * (count + 1) * (2 * count + 1) / 24) ** 0.5
    rank = max(0, int(count * (count + 1) / 4 - ONE_IN_TWENTY * spread))
    return statistics.median(means), means[rank], means[-1 - rank]

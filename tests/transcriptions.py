"""Losses of clustering and of self-distillation once more: loops over samples, one seed, scalars of torch.

Each is compared with the package's loss at random inputs and, in the objectives' cases, trains the dense twin. Views
are lists of vectors, or of lists of patches' vectors; what carries no gradient in the source is detached here.
"""

from math import log

import torch


def unit(vector):
    return vector / torch.sqrt((vector * vector).sum()) if vector.any() else vector


def cosine(x, y):
    return unit(x) @ unit(y)


def softmax(values):
    exponentials = [torch.exp(value - max(values).detach()) for value in values]
    return [each / sum(exponentials) for each in exponentials]


def cross_entropy(aim, shares):
    return -sum(q.detach() * torch.log(p) for q, p in zip(aim, shares, strict=True))


def mean(values):
    return sum(values) / len(values)


def scores(view, prototypes):
    return [[cosine(z, c) for c in prototypes] for z in view]


def shares(view, prototypes, tau):
    return [softmax([s / tau for s in row]) for row in scores(view, prototypes)]


def sinkhorn(rows, epsilon, iterations):
    """As SwAV's code: rows of Q are prototypes, columns samples; Q sums to 1, and is B times the result."""
    q = torch.stack([torch.stack(list(row)) for row in rows]).detach().T
    q = torch.exp((q - q.max()) / epsilon)
    q = q / q.sum()
    for _ in range(iterations):
        for k in range(len(q)):
            q[k] = q[k] / q[k].sum() / len(q)
        for b in range(q.shape[1]):
            q[:, b] = q[:, b] / q[:, b].sum() / q.shape[1]
    return list((q * q.shape[1]).T)


def swav(first, second, prototypes, tau, epsilon, iterations):
    codes = [sinkhorn(scores(view, prototypes), epsilon, iterations) for view in (first, second)]
    found = [shares(view, prototypes, tau) for view in (first, second)]
    total = sum(cross_entropy(codes[0][b], found[1][b]) for b in range(len(first)))
    return (
        0.5 * (total + sum(cross_entropy(codes[1][b], found[0][b]) for b in range(len(first)))) / len(first)
    )


def msn(anchors, targets, prototypes, tau, sharpening, weight, floor=True):
    found, aims = shares(anchors, prototypes, tau), []
    for row in shares(targets, prototypes, tau):
        powers = [p ** (1 / sharpening) for p in row]
        aims.append([power / sum(powers) for power in powers])
    average = [mean([row[k] for row in found]) for k in range(len(prototypes))]
    entropy = -sum(p * torch.log(p) for p in average)
    least = log(len(prototypes)) if floor else 0.0
    return mean(list(map(cross_entropy, aims, found))) + weight * (least - entropy)


def nearest(view, centroids):
    """The cluster of largest cosine, the first of those that are equal but for round-off."""
    return [
        max(range(len(row)), key=lambda k, row=row: round(row[k].item(), 9))
        for row in scores(view, centroids)
    ]


def deepcluster(view, centroids, assignment, tau):
    found = shares(view, centroids, tau)
    return mean([-torch.log(row[k]) for row, k in zip(found, assignment, strict=True)])


def k_means(view, centroids, iterations):
    view, centroids = [unit(z) for z in view], [unit(c) for c in centroids]
    for _ in range(iterations):
        assignment = nearest(view, centroids)
        for k in range(len(centroids)):
            own = [z for z, at in zip(view, assignment, strict=True) if at == k]
            centroids[k] = unit(sum(own)) if own else centroids[k]
    return centroids


def byol(predicted, targets):
    pairs = [(predicted[0], targets[1]), (predicted[1], targets[0])]
    return sum(mean([2 - 2 * cosine(p, t.detach()) for p, t in zip(*each, strict=True)]) for each in pairs)


def simsiam(predicted, projected):
    return byol(predicted, projected) / 4 - 1


def to_teacher(student, teacher, centre, tau_s, tau_t):
    aim = softmax([(g - c) / tau_t for g, c in zip(teacher, centre, strict=True)])
    return cross_entropy(aim, softmax([g / tau_s for g in student]))


def dino(students, teachers, centre, tau_s, tau_t):
    total, pairs = 0.0, 0
    for v, teacher in enumerate(teachers):
        for u, student in enumerate(students):
            if u != v:
                each = [to_teacher(g, t, centre, tau_s, tau_t) for g, t in zip(student, teacher, strict=True)]
                total, pairs = total + mean(each), pairs + 1
    return total / pairs


def ibot(pooled, patches, masked, centres, tau_s, tau_t, weight):
    total = 0.0
    for student, teacher, mask in zip(*patches, masked, strict=True):
        for b in range(len(student)):
            at = [p for p, hidden in enumerate(mask[b]) if hidden]
            each = [to_teacher(student[b][p], teacher[b][p], centres[1], tau_s, tau_t) for p in at]
            total = total + sum(each) / max(len(each), 1) / len(student) / len(masked)
    return dino(*pooled, centres[0], tau_s, tau_t) + weight * total

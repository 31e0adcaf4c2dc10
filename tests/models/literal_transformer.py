"""A Transformer written out: Python's loops over seed, sample, layer, head, query and key, vectors in numpy."""

from math import erf, exp, sqrt

import numpy as np


def literal(model, parameters, contents, visible):
    """Return outputs (seed, sample, query, coordinate) and maps (seed, sample, layer, head, query, key)."""
    blocks = {name: block.numpy() for name, block in parameters.named().items()}
    seeds, samples, patches, _ = contents.shape
    outputs = [[None] * samples for _ in range(seeds)]
    maps = np.zeros((seeds, samples, model.layers, model.heads, patches, patches))
    for s in range(seeds):
        for b in range(samples):
            stream = [contents[s, b, p] * visible[s, b, p] for p in range(patches)]
            if model.positions == "stream":
                stream = [np.concatenate([each, np.eye(patches)[p]]) for p, each in enumerate(stream)]
            for layer in range(model.layers):
                own = {name: block[s, layer] for name, block in blocks.items()}
                stream = one_layer(model, own, stream, contents.shape[-1], maps[s, b, layer])
            outputs[s][b] = stream
    return np.array(outputs), maps


def one_layer(model, own, stream, features, maps):
    """Return the stream after a layer; write its maps."""
    patches, normed = len(stream), [norm(model, each) for each in stream]
    # a token is its content, then its position
    tokens = [
        each if model.positions == "stream" else np.concatenate([each, np.eye(patches)[p]])
        for p, each in enumerate(normed)
    ]
    moved = [np.zeros_like(each) for each in stream]
    for h in range(model.heads):
        for p in range(patches):
            query = tokens[p].copy()
            if not model.content_queries:
                query[:features] = 0
            weights = [exp(logit(model, own, h, query, tokens[q], features)) for q in range(patches)]
            for q in range(patches):
                maps[h, p, q] = weights[q] / sum(weights)
                part = 1 if model.values == "projections" else 1 / model.heads
                moved[p] = moved[p] + part * maps[h, p, q] * value(model, own, h, normed[q])
    stream = [old + new if model.residual else new for old, new in zip(stream, moved, strict=True)]
    if model.mlp:
        stream = [each + mlp(own, norm(model, each)) for each in stream]
    return stream


def logit(model, own, h, query, key, features):
    """Return t_pᵀ Q t_q / τ, Q in blocks or in factors."""
    patches, zero = len(query) - features, np.zeros
    if model.key_dimension is None:
        below = np.hstack([own["feature_position"][h], own["position_position"][h]])
        above = zero((features, features + patches))
        if model.content_queries:
            above = np.hstack([own["content_content"][h], own["content_position"][h]])
        return query @ np.vstack([above, below]) @ key / model.temperature
    asked = own["query_content"][h] if model.content_queries else zero(own["key_content"][h].shape)
    asks = query @ np.vstack([asked, own["query_position"][h]])
    return asks @ (key @ np.vstack([own["key_content"][h], own["key_position"][h]])) / model.temperature


def value(model, own, h, token):
    """Return V c_q."""
    if model.values == "identity":
        return token
    if model.values == "scalar":
        return own["value"][h] * token
    mapped = token @ own["value"][h]
    return mapped if model.values == "matrix" else mapped @ own["output"][h]


def norm(model, token):
    """Return a token of mean 0 and variance 1, where there is a norm."""
    if not model.norm:
        return token
    centred = token - token.mean()
    return centred / sqrt((centred**2).mean() + 1e-5)


def mlp(own, token):
    """Return W_2 gelu(W_1 x)."""
    hidden = [x * (1 + erf(x / sqrt(2))) / 2 for x in token @ own["mlp_in"]]
    return np.array(hidden) @ own["mlp_out"]

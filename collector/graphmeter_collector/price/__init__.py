"""Decoded spans in, spans with a cost out. An unknown model is *unpriced*, never free.

book       what a call costs and why; caches what the sources said
catalogue  the genai-prices catalogue as a source of dated prices
providers  how instrumentations name providers, and how the catalogue does
rates      one day's price of one model, as exact integers
money      rounding, once
"""

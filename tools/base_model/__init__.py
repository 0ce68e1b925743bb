"""The steps that make the embedded base model: prepare, train, card."""

"""The agent of a node: what containers may use of its cards, and what they use."""

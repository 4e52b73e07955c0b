"""A fleet without GPUs: recorded or made-up load, spoken to the outside as a real fleet's metrics would be."""

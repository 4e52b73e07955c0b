"""One kind of advice per file; the joint plan takes them in this order: slice, then group, then mix."""

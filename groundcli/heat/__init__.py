"""From a heat map to a point, boxes, a mask and a confidence. Plain numpy: worker processes import it."""

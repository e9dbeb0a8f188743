"""MiniGrid's environments, fully observed: one at a time, or thousands in arrays."""

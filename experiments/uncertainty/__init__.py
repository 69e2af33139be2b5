"""Whether networks know when they do not know: what their uncertainty is good for, and what it is not."""

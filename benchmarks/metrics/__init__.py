"""Metrics beside Quantus, Captum and Xplique."""

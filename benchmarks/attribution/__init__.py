"""Attribution methods beside Captum, Xplique and pytorch-grad-cam, on one EfficientNet-Lite0."""

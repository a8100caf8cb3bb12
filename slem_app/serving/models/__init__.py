"""The models that are served: segmentation, clicks, their history, the queue for the network, versions."""

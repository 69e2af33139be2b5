"""What a data set teaches a network, found without looking at the data set. `tagged` belongs to `clever_hans`."""

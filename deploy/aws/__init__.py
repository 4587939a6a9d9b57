"""One module per service of AWS: make, find and remove what a cluster consists of."""

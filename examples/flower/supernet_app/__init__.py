"""A Flower app that trains a supernet."""

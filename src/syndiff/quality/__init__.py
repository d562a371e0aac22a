"""Checks of a data set before it is trained on, and the page that shows them."""

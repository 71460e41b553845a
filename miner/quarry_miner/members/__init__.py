"""The members that propose candidates, and the spaces in which similarity is measured."""

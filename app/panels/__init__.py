"""Pieces of a page that own their controls."""

"""Sabotages of the rules of consensus."""

"""Rows of accuracies, shown as table, figures and page."""

"""Conditions that look like a lost wake-up, each made for real, and what the real daemon says of them."""

"""The demo: an embedded service that loses wake-ups, the real daemon guarding it, and the story live in a terminal."""

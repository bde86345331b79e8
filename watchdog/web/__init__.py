"""What the daemon shows over HTTP: metrics, health, the API. `view` is what it asks of the daemon."""

"""Requests on disk while the database is away: fsynced before their senders are answered, replayed when it is back."""

"""The database schema, revision by revision. Revisions stand on their own: they import nothing of the application."""

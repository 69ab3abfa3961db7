"""Who may come in: a request's credentials in, its caller or a refusal out."""

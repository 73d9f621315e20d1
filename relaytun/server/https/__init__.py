"""HTTPS host names: told apart by their first message, passed through or ended here."""

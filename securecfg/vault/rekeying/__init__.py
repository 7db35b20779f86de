"""New keys for what lies in a vault and in its sealed scopes: data, roles, scopes, and everything on the worst day."""

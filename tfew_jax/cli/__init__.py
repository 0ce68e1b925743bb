"""The command `tfew`: one file a command; the only package that imports gin."""

"""The key providers that come with the library, each loaded when its scheme is used."""

"""Test support that is public: conformance suites for plug-ins, and the instruments that break stores on purpose."""

"""Examines the configuration of a broker; changes nothing."""

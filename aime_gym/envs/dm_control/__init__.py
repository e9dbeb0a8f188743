"""The bodies of dm_control's suite, with AIME's added tasks."""

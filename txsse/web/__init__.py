"""For services that stream themselves: event streams over twisted.web, and Klein handlers that answer JSON, events or 202."""

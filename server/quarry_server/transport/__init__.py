"""The transport around every call: connections, interceptors, who is let in, and how a server stops."""

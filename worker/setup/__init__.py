"""Connects a tenant: the log stream, the event stream and the Action, made, mended or taken away by `understudy setup`."""

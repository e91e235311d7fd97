"""The room: the life of one request, sans-I/O. Imports no Twisted, no clock and no socket.

``table.py`` holds the states and transitions, ``machine.py`` takes the steps, ``events.py`` what goes in, ``actions.py`` what comes out,
``relay.py`` the path of body bytes, ``voice.py`` what the proxy says on its own account.
"""

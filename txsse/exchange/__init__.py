"""The room: the life of one request, sans-I/O. Imports no Twisted, no clock and no socket.

``machine.py`` holds the table of states and transitions, ``events.py`` what goes in, ``actions.py`` what comes out,
``relay.py`` the path of body bytes, ``voice.py`` what the proxy says on its own account.
"""

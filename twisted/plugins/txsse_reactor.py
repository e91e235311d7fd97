"""Tells twistd that ``--reactor=txsse`` exists. Imports nothing of ours: every start of every twistd program reads this file."""

from twisted.application.reactors import Reactor

txsse = Reactor("txsse", "txsse.sockets.reactor", "epoll(7), with a shorter way to the streams of sse-proxy.")

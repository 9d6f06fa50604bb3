"""Print what starts and ends: python print_events.py [ADDRESS]."""

import sys

from mird.clients.subscriber import Subscriber
from mird.daemon.messages import DEFAULT_ENDPOINT, Event

address = sys.argv[1] if len(sys.argv) > 1 else DEFAULT_ENDPOINT
with Subscriber(address, kinds=["event"], max_age_s=2.0) as subscriber:
    for message in subscriber:
        if isinstance(message, Event):
            print(f"channel {message.channel}: {message.label} {message.event} ({message.score:.0%})", flush=True)

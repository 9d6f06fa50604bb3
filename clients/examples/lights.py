"""Dim lights by what is heard, over Art-Net: python lights.py ADDRESS NODE LABEL ... (the first is DMX channel 1)."""

import socket
import struct
import sys

from mird.clients.subscriber import Subscriber
from mird.daemon.messages import Frame

if len(sys.argv) < 4:
    sys.exit(__doc__)
address, node, *labels = sys.argv[1:]
host, _, port = node.partition(":")
values = [0.0] * len(labels)
with Subscriber(address, kinds=["frame"], channel=1) as subscriber, socket.socket(type=socket.SOCK_DGRAM) as out:
    while True:
        message = subscriber.recv(timeout_s=1.0)
        scores = {each.label: each.score for each in message.top} if isinstance(message, Frame) else {}
        values = [0.7 * value + 0.3 * scores.get(label, 0.0) for value, label in zip(values, labels, strict=True)]
        dmx = bytes(round(255 * value) for value in values).ljust(512, b"\0")
        header = b"Art-Net\0" + struct.pack("<H", 0x5000) + struct.pack(">HBBHH", 14, 0, 0, 0, len(dmx))
        out.sendto(header + dmx, (host, int(port or 6454)))

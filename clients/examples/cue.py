"""Trigger a cue, at most once in five seconds: python cue.py ADDRESS LABEL COMMAND [ARGUMENT ...]."""

import asyncio
import sys

from mird.clients.async_subscriber import AsyncSubscriber
from mird.daemon.messages import Event


async def main(address: str, label: str, *command: str) -> None:
    """Run the command whenever the label starts."""
    ready_s = 0.0
    async with AsyncSubscriber(address, kinds=["event"], max_age_s=0.5) as subscriber:
        async for message in subscriber:
            if not isinstance(message, Event) or (message.event, message.label) != ("start", label):
                continue
            if not message.replay and asyncio.get_running_loop().time() >= ready_s:
                ready_s = asyncio.get_running_loop().time() + 5.0
                await asyncio.create_subprocess_exec(*command)


sys.exit(asyncio.run(main(*sys.argv[1:])) if len(sys.argv) > 3 else __doc__)

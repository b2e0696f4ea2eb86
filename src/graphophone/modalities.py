"""What an utterance may have: the names, in the order in which their columns lie side by side."""

MODALITIES = ("text", "audio", "video")

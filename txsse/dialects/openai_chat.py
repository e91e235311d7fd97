"""OpenAI chat completions: ``/v1/chat/completions``."""

from __future__ import annotations

from txsse.dialects.base import Members, Speaker, Witness, asked
from txsse.dialects.openai import FORM_MEMBERS, OpenAIDialect, wants_form


class OpenAIChatDialect(OpenAIDialect):
    """``openai-chat``: text of ours is a delta, thought (``reasoning_content``) or said (``content``)."""

    name = "openai-chat"
    id_prefix = "chatcmpl-txsse-"
    object_name = "chat.completion.chunk"
    text_members = FORM_MEMBERS | {"tools", "functions"}

    def heartbeat(self, speaker: Speaker, witness: Witness | None) -> bytes:
        return self.delta(speaker, "content", "", witness)

    def message(self, speaker: Speaker, text: str, channel: str, *, first: bool) -> bytes:
        return self.delta(speaker, "reasoning_content" if channel == "reasoning" else "content", text)

    def before_answer(self, speaker: Speaker, separator: str, channel: str) -> bytes:
        return self.delta(speaker, "content", separator) if separator and channel == "content" else b""

    def may_show_text(self, members: Members) -> bool:
        return not self.mute and not wants_form(members) and not asked(members, "tools", "functions")

    def delta(self, speaker: Speaker, name: str, text: str, witness: Witness | None = None) -> bytes:
        """One chunk whose delta has the one member *name*."""
        return self.chunk(speaker, {"index": 0, "delta": {name: text}, "finish_reason": None}, witness)

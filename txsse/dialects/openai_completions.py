"""OpenAI's legacy completions: ``/v1/completions``."""

from __future__ import annotations

from txsse.dialects.base import Members, Speaker, Witness, asked
from txsse.dialects.openai import FORM_MEMBERS, OpenAIDialect, wants_form

MARKDOWN_SEPARATOR = "\n\n---\n\n"
"""What separates text of ours from an answer in Markdown, unless a route says otherwise."""
SEPARATOR = "\n\n"


class OpenAICompletionsDialect(OpenAIDialect):
    """``openai-completions``: there is one channel, the text. What is completed is no Markdown, so the divider is a blank line."""

    name = "openai-completions"
    id_prefix = "cmpl-txsse-"
    object_name = "text_completion"
    text_members = FORM_MEMBERS | {"prompt", "suffix", "echo", "best_of"}

    def heartbeat(self, speaker: Speaker, witness: Witness | None) -> bytes:
        return self._text(speaker, "", witness)

    def message(self, speaker: Speaker, text: str, channel: str, *, first: bool) -> bytes:
        return self._text(speaker, text)

    def before_answer(self, speaker: Speaker, separator: str, channel: str) -> bytes:
        if separator == MARKDOWN_SEPARATOR:
            separator = SEPARATOR
        return self._text(speaker, separator) if separator else b""

    def may_show_text(self, members: Members) -> bool:
        """Also not into code that is filled in at a cursor, nor where several prompts are completed at once."""
        several = members.get("prompt", b"").lstrip().startswith(b"[")
        return not self.mute and not several and not wants_form(members) and not asked(members, "suffix", "echo", "best_of")

    def _text(self, speaker: Speaker, text: str, witness: Witness | None = None) -> bytes:
        return self.chunk(speaker, {"text": text, "index": 0, "logprobs": None, "finish_reason": None}, witness)

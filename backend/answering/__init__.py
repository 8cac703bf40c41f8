"""Answers from documents, outside of any conversation: what is read, who is asked, and what each part rests on."""

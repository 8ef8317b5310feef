"""Transfer: a small transformer for texts, tuned on what the shop's customers search for and then open.

| size      | counts |
|---|---|
| n_texts   | texts of a batch or of another part |
| n_tokens  | tokens of the longest of them; a shorter text is padded |
| n_hidden  | numbers of a vector |
"""

import { memo } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import gfm from "remark-gfm";

// Images would make the browser fetch an address that a model chose; headings would break the page's own outline.
const LEFT_OUT = ["img", "h1", "h2", "h3", "h4", "h5", "h6"];
const COMPONENTS: Components = {
  a: ({ href, children }) => (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow">
      {children}
    </a>
  ),
};

/** A reply: links, lists, emphasis, tables. HTML in it is shown as text, and only http(s) and mail addresses are links. */
export const Markdown = memo(function Markdown({ text }: { text: string }) {
  return (
    <ReactMarkdown remarkPlugins={[gfm]} disallowedElements={LEFT_OUT} unwrapDisallowed components={COMPONENTS}>
      {closedLists(text)}
    </ReactMarkdown>
  );
});

const ITEM = /^\s*(?:\d{1,3}[.)]|[-*+])\s/;

/** Markdown takes the line after a list for a part of its last item; in a chat it is a sentence of its own. */
function closedLists(text: string): string {
  const lines = text.split("\n");
  return lines.flatMap((line, at) => (ITEM.test(lines[at - 1] ?? "") && /^\S/.test(line) && !ITEM.test(line) ? ["", line] : line)).join("\n");
}

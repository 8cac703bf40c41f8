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
      {text}
    </ReactMarkdown>
  );
});

import type { Source } from "@/shared/turn";

/** What a reply rests on: numbered as in the text; each opens to its section and the words it quotes. */
export function Sources({ sources }: { sources: Source[] }) {
  const listed = new Map<number, Source[]>();
  for (const source of sources) listed.set(source.number, [...(listed.get(source.number) ?? []), source]);
  if (listed.size === 0) return null;
  return (
    <div className="sources" role="group" aria-label="Sources">
      {[...listed].map(([number, [source, ...others]]) => source && <SourceChip key={number} source={source} others={others} />)}
    </div>
  );
}

function SourceChip({ source, others }: { source: Source; others: Source[] }) {
  const quotes = new Set([source, ...others].map((each) => each.quote).filter(Boolean));
  const name = source.title || source.documentId;
  const place = [source.section, source.page === null ? "" : `page ${source.page}`].filter(Boolean).join(", ");
  return (
    <details className="source">
      <summary title={source.quote}>
        <span className="source-number">{source.number}</span>
        <span className="source-name">{name}</span>
      </summary>
      <div className="source-body">
        {place !== "" && <p className="source-place">{place}</p>}
        {[...quotes].map((quote) => (
          <blockquote key={quote}>{quote}</blockquote>
        ))}
        {source.uri !== "" && (
          <a href={source.uri} target="_blank" rel="noopener noreferrer nofollow">
            Open the document
          </a>
        )}
      </div>
    </details>
  );
}

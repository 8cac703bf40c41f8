import type { Source } from "@/shared/turn";

/** What a reply rests on: numbered as in the text; each opens to its section and the words it quotes. */
export function Sources({ sources }: { sources: Source[] }) {
  const listed = sources.filter((source, at) => sources.findIndex((each) => each.number === source.number) === at);
  if (listed.length === 0) return null;
  return (
    <div className="sources" role="group" aria-label="Sources">
      {listed.map((source) => (
        <SourceChip key={source.number} source={source} />
      ))}
    </div>
  );
}

function SourceChip({ source }: { source: Source }) {
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
        {source.quote !== "" && <blockquote>{source.quote}</blockquote>}
        {source.uri !== "" && (
          <a href={source.uri} target="_blank" rel="noopener noreferrer nofollow">
            Open the document
          </a>
        )}
      </div>
    </details>
  );
}

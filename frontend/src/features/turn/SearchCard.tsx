import { passages } from "./tool-words";
import type { Search } from "@/shared/turn";

/** A search in documents that code made before the model was asked: how much was kept, or why nothing was. */
export function SearchCard({ search }: { search: Search }) {
  const line = `Searched the documents: ${passages(search.passages)}`;
  return (
    <div className="call" role="group" data-state="done" aria-label={line}>
      <details>
        <summary>
          <svg className="call-mark" viewBox="0 0 16 16" aria-hidden="true">
            <path d="M3 8.5l3.2 3.2L13 5" />
          </svg>
          <span className="call-line">{line}</span>
        </summary>
        <div className="call-body">
          <p className="call-title">Searched for</p>
          <p>{search.query}</p>
          {search.titles.length > 0 && (
            <ul>
              {search.titles.map((title) => (
                <li key={title}>{title}</li>
              ))}
            </ul>
          )}
          {search.explanation !== "" && <p>{search.explanation}</p>}
        </div>
      </details>
    </div>
  );
}

import { useState } from "react";

import type { Choice, Part, ProjectLine } from "./parts";

interface Props {
  part: Part;
  onChoose: ((message: string) => void) | null; // null: it is no longer the time to choose
}

/** A tool's result as something to look at and, in the latest turn, to choose from. */
export function PartCard({ part, onChoose }: Props) {
  switch (part.kind) {
    case "projects":
      return (
        <ul className="part projects" aria-label="Projects">
          {part.projects.map((project) => (
            <Project key={project.orderNumber} project={project} onChoose={onChoose} />
          ))}
        </ul>
      );
    case "choices":
      return <Choices label={part.label} choices={part.choices} onChoose={onChoose} />;
    case "receipt":
      return (
        <section className="part receipt" aria-label="Receipt">
          <h2>{part.heading}</h2>
          <dl>
            {part.rows.map((row) => (
              <div key={row.name}>
                <dt>{row.name}</dt>
                <dd>{row.value}</dd>
              </div>
            ))}
          </dl>
          {part.link !== null && (
            <a href={part.link} target="_blank" rel="noopener noreferrer">
              Open the project
            </a>
          )}
        </section>
      );
  }
}

function Project({ project, onChoose }: { project: ProjectLine; onChoose: Props["onChoose"] }) {
  const { message } = project;
  return (
    <li>
      <div>
        <p className="project-title">
          {project.title} <span className="project-order">{project.orderNumber}</span>
        </p>
        <p className="project-facts">{[project.status, project.appointment, project.place].filter(Boolean).join(" · ")}</p>
      </div>
      {message !== null && onChoose && (
        <button type="button" className="choice" aria-label={message} onClick={() => onChoose(message)}>
          Find dates
        </button>
      )}
    </li>
  );
}

const SHOWN_FIRST = 8;

function Choices({ label, choices, onChoose }: { label: string; choices: Choice[]; onChoose: Props["onChoose"] }) {
  const [all, setAll] = useState(false);
  const shown = all ? choices : choices.slice(0, SHOWN_FIRST);
  return (
    <div className="part" role="group" aria-label={label}>
      <p className="part-label">{label}</p>
      <ul className="choices">
        {shown.map((choice) => (
          <li key={choice.message}>
            <button type="button" className="choice" disabled={!onChoose} onClick={() => onChoose?.(choice.message)}>
              {choice.label}
            </button>
          </li>
        ))}
        {shown.length < choices.length && (
          <li>
            <button type="button" className="choice more" onClick={() => setAll(true)}>
              {choices.length - shown.length} more
            </button>
          </li>
        )}
      </ul>
    </div>
  );
}

import { useState } from "react";

import type { Choice, Part, ProjectLine } from "./parts";

interface Props {
  part: Part;
  told: string; // what the reply says, so that it is not said twice
  onChoose: ((message: string) => void) | null; // null: it is no longer the time to choose
}

/** A tool's result as something to look at and, in the latest turn, to choose from. */
export function PartCard({ part, told, onChoose }: Props) {
  switch (part.kind) {
    case "projects":
      return <Projects projects={part.projects} told={told} onChoose={onChoose} />;
    case "choices":
      return <Choices label={part.label} choices={part.choices} onChoose={onChoose} />;
    case "route":
      return (
        <div className="part route" role="group" aria-label={part.label}>
          <h2>{part.label}</h2>
          <ol>
            {part.stops.map(({ id, line }) => (
              <li key={id}>{line}</li>
            ))}
          </ol>
          <p className="part-label">{part.total}</p>
        </div>
      );
    case "receipt":
      return (
        <div className="part receipt" role="group" aria-label="Receipt">
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
        </div>
      );
  }
}

/** A list where the reply has none, and otherwise only what can be chosen from the list in the reply. */
function Projects({ projects, told, onChoose }: { projects: ProjectLine[] } & Omit<Props, "part">) {
  const named = projects.filter(({ orderNumber, title }) => told.includes(orderNumber) || told.includes(title));
  if (named.length === 1) return null; // it was looked up, not listed
  if (named.length === projects.length) {
    return <Choices label="Find dates for" choices={bookable(projects)} onChoose={onChoose} />;
  }
  if (named.length > 1) return <Choices label="Choose a project" choices={named.map(choiceOf)} onChoose={onChoose} />;
  return (
    <ul className="part projects" aria-label="Projects">
      {projects.map((project) => (
        <Project key={project.orderNumber} project={project} onChoose={onChoose} />
      ))}
    </ul>
  );
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

/** Projects with something to book. Titles that occur twice carry the order number. */
function bookable(projects: ProjectLine[]): Choice[] {
  return projects.flatMap((project, _at, all) =>
    project.message === null ? [] : { message: project.message, label: choiceOf(project, _at, all).label },
  );
}

function choiceOf({ title, orderNumber }: ProjectLine, _at: number, among: ProjectLine[]): Choice {
  const message = `${title}, order ${orderNumber}`;
  return { message, label: among.filter((each) => each.title === title).length === 1 ? title : message };
}

const SHOWN_FIRST = 8;

function Choices({ label, choices, onChoose }: { label: string; choices: Choice[]; onChoose: Props["onChoose"] }) {
  const [all, setAll] = useState(false);
  const shown = all ? choices : choices.slice(0, SHOWN_FIRST);
  if (!onChoose || choices.length === 0) return null; // past choices are in the reply's own words
  return (
    <div className="part" role="group" aria-label={label}>
      <p className="part-label">{label}</p>
      <ul className="choices">
        {shown.map((choice) => (
          <li key={choice.message}>
            <button type="button" className="choice" onClick={() => onChoose(choice.message)}>
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

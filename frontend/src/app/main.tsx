import "@/app/styles/tokens.css";
import "@/app/styles/base.css";
import "@/app/styles/layout.css";
import "@/app/styles/turn.css";

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { App } from "@/app/App";

const root = document.getElementById("root");
if (!root) throw new Error("the page has no #root");
createRoot(root).render(
  <StrictMode>
    <App />
  </StrictMode>,
);

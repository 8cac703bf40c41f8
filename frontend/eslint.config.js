import js from "@eslint/js";
import hooks from "eslint-plugin-react-hooks";
import tseslint from "typescript-eslint";

/** Imports run shared -> features -> app, and no feature imports another. */
const layer = (files, ...patterns) => ({
  files,
  rules: { "no-restricted-imports": ["error", { patterns: patterns.map(([group, message]) => ({ group, message })) }] },
});

export default tseslint.config(
  { ignores: ["src/shared/api-types.ts"] },
  js.configs.recommended,
  {
    files: ["**/*.{ts,tsx}"],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
    },
  },
  { files: ["src/**/*.{ts,tsx}", "tests/**/*.tsx"], extends: [hooks.configs.flat["recommended-latest"]] },
  layer(
    ["src/shared/**"],
    [["@/features/**", "@/app/**"], "shared imports nothing above it"],
  ),
  layer(
    ["src/features/**"],
    [["@/app/**"], "features do not import the app"],
    [["@/features/**", "../../*"], "a feature imports only its own folder and shared"],
  ),
);
